"""Numbers over runs and how sure they are: stratified bootstrap intervals, by scipy.

As Agarwal et al. (NeurIPS 2021, "Deep RL at the edge of the statistical precipice") have it: runs
are resampled within their task, so that every resample has each task's number of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from offlinerlkit_romi.utils.plotter import Curve
from offlinerlkit_romi.utils.text import number

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST = 3  # an interval from fewer runs would say nothing
REMEDY = "no IQM: scipy is not installed; pip install 'offlinerlkit-romi[report]'"
Strata = Sequence[Sequence[float]]  # a score per run, task by task


class Estimate(NamedTuple):
    """A number over runs and its 95 % interval; NaN where it cannot be told."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def text(self, form: str = ".1f") -> str:
        """The number, and its interval where there is one."""
        told = "" if math.isnan(self.low) else f" [{self.low:{form}}, {self.high:{form}}]"
        return number(self.value, form) + told


UNKNOWN = Estimate(math.nan)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and sample standard deviation (n - 1); NaN where there is none."""
    if not values:
        return math.nan, math.nan
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), std


def mean_curve(curves: Sequence[Mapping[int, float]]) -> Curve:
    """Steps (n,), mean and standard deviation over runs (n,) of each run's values by step.

    A run counts as far as it got; one run has a deviation of 0.
    """
    values: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve.items():
            values.setdefault(step, []).append(value)
    steps = sorted(values)
    pairs = np.array([mean_and_std(values[step]) for step in steps], np.float64).reshape(-1, 2)
    return np.array(steps, np.float64), pairs[:, 0], np.nan_to_num(pairs[:, 1])


def can_estimate() -> bool:
    """Whether scipy is there."""
    return find_spec("scipy") is not None


def interquartile_mean(strata: Strata, seed: int = 0) -> Estimate:
    """Interquartile mean over all runs of all tasks.

    Args:
        strata: One score per run, task by task.
        seed: Of the resampling.

    Returns:
        NaN for fewer than three runs, for an unknown score among them, and without scipy.
    """

    def iqm(*samples: Any, axis: int = -1) -> Any:
        from scipy import stats

        return stats.trim_mean(np.concatenate(samples, axis), 0.25, axis=axis)

    (found,) = _estimates(strata, iqm, seed)
    return found


def probability_of_improvement(ours: Strata, theirs: Strata, seed: int = 0) -> Estimate:
    """Probability that a run of ours scores higher than one of theirs on a task of both.

    The mean over tasks of the Mann-Whitney statistic: a tie counts as a half.
    """

    def improvement(*samples: Any, axis: int = -1) -> Any:
        pairs = zip(samples[: len(ours)], samples[len(ours) :], strict=True)
        # (..., n), (..., m) -> (..., n, m)
        signs = [np.sign(x[..., :, None] - y[..., None, :]).mean((-2, -1)) for x, y in pairs]
        return 0.5 + 0.5 * np.mean(signs, axis=0)

    (found,) = _estimates([*ours, *theirs], improvement, seed)
    return found


def performance_profile(
    strata: Strata, thresholds: Sequence[float], seed: int = 0
) -> list[Estimate]:
    """Share of runs that score above each threshold."""
    limits = np.asarray(thresholds, np.float64)

    def profile(*samples: Any, axis: int = -1) -> Any:
        runs = np.concatenate(samples, axis)
        return np.stack([(runs > limit).mean(axis) for limit in limits])  # (k, ...)

    return _estimates(strata, profile, seed)


def _estimates(strata: Strata, statistic: Callable[..., Any], seed: int) -> list[Estimate]:
    """A statistic, or each number of it, with its interval: none where a task has one run."""
    samples = [np.asarray(x, np.float64) for x in strata]
    known = all(len(x) and np.isfinite(x).all() for x in samples)
    if not known or sum(map(len, samples)) < FEWEST or not can_estimate():
        return [UNKNOWN]
    values = np.atleast_1d(statistic(*samples))
    if all(np.ptp(x) == 0 for x in samples):  # scipy warns of a distribution of one point
        low = high = values
    elif min(map(len, samples)) < 2:
        low = high = np.full_like(values, math.nan)
    else:
        low, high = _interval(samples, statistic, seed)
    rows = zip(values, np.atleast_1d(low), np.atleast_1d(high), strict=True)
    return [Estimate(*map(float, row)) for row in rows]


def _interval(samples: Sequence[Any], statistic: Callable[..., Any], seed: int) -> Any:
    from scipy import stats

    return stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
