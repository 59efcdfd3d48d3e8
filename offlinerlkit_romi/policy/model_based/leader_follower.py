"""A policy that leads and a model that follows: how they play, and what the follower answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from offlinerlkit_romi.bilevel import (
    Curvature,
    Tensors,
    constrained_response,
    pair_weights,
    smallest_eigenvalue,
)
from offlinerlkit_romi.dynamics.row_scores import RowScores
from offlinerlkit_romi.policy.base_policy import Metrics, check_choice

LEADER_MODES = ("plain", "stackelberg", "kkt")
LAMBDA_BOUNDS = (1e-3, 1e4)
DAMPING_MARGIN = 1.1  # times what makes the curvature's smallest eigenvalue zero


@dataclass(frozen=True)
class Game:
    """How ROMBRL's leader and follower play.

    The fields are settings of a run: `train rombrl --help` says what each means.

    Raises:
        ValueError: unknown `leader_mode`, or a horizon that does not fit the trajectories.
    """

    leader_mode: str = "kkt"
    adversary: bool = True
    trajectories: int = 2500  # n
    trajectory_length: int = 10  # T
    model_horizon: int = 10  # h
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    normalise: str = "all"
    discount_weights: str = "both"
    discount_restarts: bool = True
    leader_epochs: int = 10
    leader_batch: int = 256  # trajectories
    correction_every: int = 1
    correction_weight: float = 1.0
    correction_cap: float = 1.0
    curvature_trajectories: int = 8  # m
    curvature_rows: int = 80  # M
    fisher: str = "model"
    damping: str = "safe"
    damping_floor: float = 5.0
    eps: float = 10.0  # nats per transition
    kl_rows: int = 2048
    lambda_mode: str = "dual"
    lambda_init: float = 1.0
    lambda_lr: float = 0.2
    follower_epochs: int = 10
    follower_batch: int = 256
    follower_clip: str = "max"
    anchor: str = "kl"
    resimulate: bool = True

    def __post_init__(self) -> None:
        check_choice("leader_mode", self.leader_mode, LEADER_MODES)
        steps, horizon = self.trajectory_length, self.model_horizon
        if horizon > steps or (horizon < steps and self.leader_mode != "plain"):
            raise ValueError(f"a model_horizon of {horizon} does not fit trajectories of {steps}")

    @property
    def corrects(self) -> bool:
        """Whether any step of the leader is corrected for the follower's answer.

        Nobody answers without an adversary.
        """
        return self.leader_mode != "plain" and self.adversary and self.correction_weight > 0

    @property
    def constrained(self) -> bool:
        """Whether a correction knows of the follower's budget."""
        return self.corrects and self.leader_mode == "kkt"


class Stakes(NamedTuple):
    """What a round's corrections need of the whole model: gradients in its parameters.

    Attributes:
        directions: g of the leader's objective, and b of the constraint where that counts.
        products: b g and b b where there is a b.
        gap: C, how far the divergence lies over the budget, ().
        multiplier: lambda, ().
    """

    directions: list[Tensors]
    products: list[torch.Tensor]
    gap: torch.Tensor
    multiplier: torch.Tensor


@torch.no_grad()
def move_multiplier(
    multiplier: torch.Tensor,
    at_bound: torch.Tensor,
    gap: torch.Tensor,
    rows: torch.Tensor,
    game: Game,
) -> dict[str, torch.Tensor | float]:
    """Move lambda, (), by how far the divergence lies over the budget; what is told of it.

    Args:
        multiplier: lambda, moved in place.
        at_bound: rounds that it has been at its upper bound, (), counted in place.
        gap: C, ().
        rows: the divergence of each row and dimension, (M, B, D).
        game: whether it moves, and how fast.
    """
    dual = game.lambda_mode == "dual"
    if dual:
        multiplier.mul_((game.lambda_lr * (gap / game.eps).clamp(-1, 1)).exp())
        multiplier.clamp_(*LAMBDA_BOUNDS)
    at_bound.copy_((at_bound + 1) * ((multiplier >= LAMBDA_BOUNDS[1]) & dual))
    told: dict[str, torch.Tensor | float] = {
        "kl": gap + game.eps,
        "kl_reward_dim": rows[..., -1].mean(),
        "c": gap,
        "lambda": multiplier.clone(),
        "eps": game.eps,
        "rounds_at_bound": at_bound.clone(),
    }
    return {f"constraint/{name}": value for name, value in told.items()}


def answer(
    scores: RowScores, weight: torch.Tensor, episode: torch.Tensor, stakes: Stakes, game: Game
) -> tuple[torch.Tensor, Metrics]:
    """How the follower's answer changes the densities of the trajectories' rows.

    Args:
        scores: of the rows of m trajectories, one after the other, then of M rows of the data.
        weight: a, what each of the first counts in the leader's objective, (m, h).
        episode: number of the episode it belongs to, (m, h).
        stakes: float64, as `weight`.
        game: how the curvature is damped.

    Returns:
        P q of the trajectories' rows, (m, h), q = A^-1 g or H g, and what was seen on the way.
    """
    gram = scores.gram().double()
    own = torch.eye(len(gram) - weight.numel(), dtype=gram.dtype, device=gram.device)
    own = own * stakes.multiplier / len(own)
    weights = torch.block_diag(*pair_weights(weight, episode), own)
    lowest = smallest_eigenvalue(gram, weights)
    damping = torch.full_like(lowest, game.damping_floor)
    if game.damping == "safe":
        damping = torch.maximum(damping, -DAMPING_MARGIN * lowest)
    curvature = Curvature(gram, weights, damping)
    along = torch.stack([scores.along(x) for x in stakes.directions], 1).double()
    found, *constraint = curvature.solve(along).unbind(1)
    seen = {"damping": damping, "min_eig": lowest, "gram_trace": gram.trace()}
    if constraint:
        solved = found, constraint[0]
        overlap, beta = map(curvature.inner, stakes.products, (along[:, 1],) * 2, solved)
        found = constrained_response(*solved, overlap, beta, stakes.gap, stakes.multiplier)
        slack = (-stakes.gap).clamp_min(0)
        seen |= {"beta": beta, "rho": slack / (slack + stakes.multiplier * beta)}
    metrics = {f"second_order/{name}": value for name, value in seen.items()}
    return found[: weight.numel()].view_as(weight), metrics
