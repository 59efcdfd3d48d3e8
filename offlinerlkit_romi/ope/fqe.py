"""Fitted-Q evaluation: the value of a fixed policy by regression on the data.

Le, Voloshin and Yue, "Batch Policy Learning under Constraints", arXiv 1903.08738: one regression to
its end per iteration, here in closed form, a ridge on random Fourier features (Rahimi and Recht,
"Random Features for Large-Scale Kernel Machines", 2007) whose penalty generalised cross-validation
chooses. A critic that descends a moving target drifts by more than it learns where the horizon is
a hundred steps. The policy is fixed, so its actions at the next states are computed once. Nothing
here is the policy's own critic, which the policy was trained to exploit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch

STILL = 0.01  # what the values may have left to move, in the unit of values
BEYOND = 0.05  # share of values that may lie outside what rewards allow
PATIENCE = 10  # horizons of 1 / (1 - gamma): a contraction is 22,000 times nearer by then
APART = 0.25  # deviation among the fits that is too large, in the unit of values
# of the ridge, per row; below these a fit follows noise wherever the policy leaves the data
PENALTIES = [10.0 ** (exponent / 2) for exponent in range(-10, 1)]
ROWS_PER_FEATURE = 4  # at least: with fewer, cross-validation cannot tell noise
Watch = Callable[[float], None]


@dataclass(frozen=True)
class FQERows:
    """Transitions, and what the policy does at their next states and at the starts of episodes.

    Attributes:
        obs: (n, S).
        action: (n, A).
        reward: (n, 1).
        next_obs: (n, S).
        next_action: (n, A), the policy's.
        terminal: (n, 1) float, 1 where nothing follows.
        start_obs: (m, S).
        start_action: (m, A), the policy's.
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    next_obs: torch.Tensor
    next_action: torch.Tensor
    terminal: torch.Tensor
    start_obs: torch.Tensor
    start_action: torch.Tensor


@dataclass(frozen=True)
class FQESettings:
    """How the value is fitted.

    Attributes:
        gamma: Discount per step, below 1.
        steps: Regressions of a fit at most; it ends where its values stand still.
        features: Random features of a fit, fewer where a half has few rows.
        splits: Times that the rows are parted into two halves, with a fit for each half.
        rows: Rows of a half, at most.
    """

    gamma: float = 0.99
    steps: int = 10_000
    features: int = 256
    splits: int = 4
    rows: int = 10_000


@dataclass(frozen=True)
class FQEResult:
    """What the fits found.

    Attributes:
        values: Discounted value at every start by every fit, (2 * splits, m); the fits up to the
            first that did not settle.
        problem: Why these are no values, in one line; empty where the fits settled.
    """

    values: torch.Tensor
    problem: str

    @property
    def mean(self) -> float:
        """Mean over fits and starts."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """Deviation among the fits' means over the starts.

        Halves of n rows deviate from what all n give as those deviate from the truth.
        """
        means = self.values.mean(1)
        return float(means.std()) if len(means) > 1 else math.nan


class Problem(NamedTuple):
    """What the regressions of one half of the rows share, in float64.

    Attributes:
        reward: (n, 1).
        follows: Discount of what follows, (n, 1): gamma, or 0 at a terminal.
        features: Of the rows, (n, K), of mean 0 and orthogonal.
        next_features: Of what follows them, (n, K).
        squares: Sums of squares of `features`, (K,).
        bounds: Lowest and highest value that rewards allow.
    """

    reward: torch.Tensor
    follows: torch.Tensor
    features: torch.Tensor
    next_features: torch.Tensor
    squares: torch.Tensor
    bounds: tuple[float, float]


def value_bounds(rows: FQERows, gamma: float) -> tuple[float, float]:
    """Lowest and highest value that the rewards allow, where an episode may end if any does."""
    ends = bool(rows.terminal.any())
    low, high = float(rows.reward.min()), float(rows.reward.max())
    horizon = 1 / (1 - gamma)
    lowest, highest = low * horizon, high * horizon
    return (min(lowest, low), max(highest, high)) if ends else (lowest, highest)


def targets(problem: Problem, mean: float, weights: torch.Tensor) -> torch.Tensor:
    """Reward and discounted bounded value of what follows, (n, 1)."""
    following = mean + problem.next_features @ weights.unsqueeze(1)
    return problem.reward + problem.follows * following.clamp(*problem.bounds)


def regress(
    problem: Problem, aims: torch.Tensor, penalty: float | None
) -> tuple[float, torch.Tensor, float]:
    """Ridge regression of `aims` (n, 1) on the features.

    Returns:
        The aims' mean, weights (K,), and the penalty per row: the given one, else the one of
        `PENALTIES` by generalised cross-validation.
    """
    n, mean = len(aims), float(aims.mean())
    rest = aims - mean
    products = (problem.features.T @ rest).squeeze(1)
    if penalty is None:
        total = float(rest.square().sum())
        penalty = min(PENALTIES, key=lambda p: _cross_validated(problem, products, total, p * n))
    return mean, products / (problem.squares + penalty * n), penalty


def _cross_validated(
    problem: Problem, products: torch.Tensor, total: float, penalty: float
) -> float:
    """Error of a ridge at rows left out, up to a factor."""
    squares, n = problem.squares, len(problem.features)
    explained = products.square() * (squares + 2 * penalty) / (squares + penalty).square()
    freedom = 1 + float((squares / (squares + penalty)).sum())
    return (total - float(explained.sum())) / max(n - freedom, 1.0) ** 2


def fitted_q_evaluation(
    rows: FQERows,
    settings: FQESettings,
    generator: torch.Generator,
    watch: Watch = lambda share: None,
) -> FQEResult:
    """Discounted value of the policy at every start, by several fits on halves of the rows.

    Args:
        rows: The data and the policy's actions.
        settings: Discount and sizes.
        generator: Source of features and halves, on the CPU: every device then draws the same.
        watch: Told after every regression how much is done, up to 1; may raise to leave.
    """
    if not settings.gamma < 1:
        none = torch.full((1, len(rows.start_obs)), math.nan)
        return FQEResult(none, "it needs a discount below 1")
    bounds = value_bounds(rows, settings.gamma)
    fits = 2 * settings.splits
    found = []
    for done, half in enumerate(_halves(len(rows.obs), settings, generator)):

        def told(share: float, done: int = done) -> None:
            watch((done + share) / fits)

        found.append(_fit(rows, half, settings, bounds, generator, told))
        told(1.0)
        if found[-1][1]:
            break
    values = torch.stack([values for values, _, _ in found])
    result = FQEResult(values, found[-1][1])
    if not result.problem and not result.std <= APART * fmean(unit for *_, unit in found):
        return FQEResult(values, f"its fits deviate by {result.std:.3g} around {result.mean:.4g}")
    return result


def _halves(n: int, settings: FQESettings, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Row numbers of each fit."""
    size = min((n + 1) // 2, settings.rows)
    for _ in range(settings.splits):
        order = torch.randperm(n, generator=generator)
        yield order[:size]
        yield order[-size:]


def _fit(
    rows: FQERows,
    half: torch.Tensor,
    settings: FQESettings,
    bounds: tuple[float, float],
    generator: torch.Generator,
    watch: Watch,
) -> tuple[torch.Tensor, str, float]:
    """Values at the starts (m,), why they are none, and the unit of values."""
    problem, starts = _pose(rows, half.to(rows.obs.device), settings, bounds, generator)
    # the value where every row pays the mean reward and is as likely to be the last
    mean = float(problem.reward.mean() / (1 - problem.follows.mean()))
    weights, penalty = torch.zeros_like(problem.squares), 0.0
    aims, unit, left = targets(problem, mean, weights), 1.0, math.inf
    most = min(settings.steps, math.ceil(PATIENCE / (1 - settings.gamma)))
    for step in range(most):
        # the penalty is chosen at doubling intervals: if at every step, nothing would settle
        fresh = step & (step - 1) == 0
        mean, weights, penalty = regress(problem, aims, None if fresh else penalty)
        before, aims = aims, targets(problem, mean, weights)
        unit = _unit(problem, aims, settings.gamma)
        # a contraction by gamma moves no farther
        left = _size(aims - before) / (1 - settings.gamma)
        watch((step + 1) / most)
        if left <= STILL * unit:
            break
    values = mean + starts @ weights
    trouble = _trouble(problem, mean, weights, left / unit, unit)
    return values.clamp(*problem.bounds), trouble, unit


def _trouble(problem: Problem, mean: float, weights: torch.Tensor, left: float, unit: float) -> str:
    """Why a fit did not settle, if so."""
    if not left <= STILL:
        return "its values still moved at the last regression"
    following = mean + problem.next_features @ weights
    outside = (following - following.clamp(*problem.bounds)).abs() > STILL * unit
    share = float(outside.double().mean())
    return f"{share:.0%} of its values lie beyond what rewards allow" if share > BEYOND else ""


def _pose(
    rows: FQERows,
    half: torch.Tensor,
    settings: FQESettings,
    bounds: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Problem, torch.Tensor]:
    """The regressions of one half, and the features of the starts (m, K)."""
    pairs = torch.cat([rows.obs[half], rows.action[half]], -1).double()
    following = torch.cat([rows.next_obs[half], rows.next_action[half]], -1).double()
    starts = torch.cat([rows.start_obs, rows.start_action], -1).double()
    centre, spread = pairs.mean(0), pairs.std(0, unbiased=False)
    # a column that does not vary says nothing
    spread = torch.where(spread > 0, spread, torch.inf)
    width, count = pairs.shape[1], min(settings.features, max(len(half) // ROWS_PER_FEATURE, 1))
    # a kernel as wide as two standardised rows typically lie apart
    directions = torch.randn(width, count, generator=generator, dtype=torch.float64)
    directions = (directions / math.sqrt(2 * width)).to(pairs)
    phases = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64).to(pairs)

    def waves(x: torch.Tensor) -> torch.Tensor:
        return torch.cos(((x - centre) / spread) @ directions + phases)

    features = waves(pairs)
    middle = features.mean(0)
    features -= middle
    squares, axes = torch.linalg.eigh(features.T @ features)
    problem = Problem(
        rows.reward[half].double(),
        settings.gamma * (1 - rows.terminal[half].double()),
        features @ axes,
        (waves(following) - middle) @ axes,
        squares.clamp_min(0),
        bounds,
    )
    return problem, (waves(starts) - middle) @ axes


def _unit(problem: Problem, values: torch.Tensor, gamma: float) -> float:
    """What values are measured in: their size, and that of a return of rewards that cancel."""
    cancelling = problem.reward.square().mean() / (1 - gamma)
    return float((values.square().mean() + cancelling).sqrt()) or 1.0


def _size(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())
