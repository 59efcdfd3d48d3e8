"""How far the model drifts from held-out data, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from offlinerlkit_romi.dynamics.ensemble_dynamics import BaseDynamics, EnsembleDynamics
from offlinerlkit_romi.dynamics.losses import gaussian_log_prob
from offlinerlkit_romi.dynamics.row_scores import members_predict

ROWS = 1000  # that a model is looked at on


class Segments(NamedTuple):
    """Pieces of episodes: n times H consecutive transitions."""

    observations: torch.Tensor  # (n, H+1, S)
    actions: torch.Tensor  # (n, H, A)
    rewards: torch.Tensor  # (n, H, 1)


def consecutive_starts(
    observations: torch.Tensor, next_observations: torch.Tensor, length: int
) -> torch.Tensor:
    """Rows from which `length` transitions follow each other within one episode, (m,).

    Rows follow each other where a next observation is the next row's observation; nothing else
    about episodes is needed.
    """
    n = len(observations) - length + 1
    if n < 1:
        return torch.empty(0, dtype=torch.long, device=observations.device)
    follows = (next_observations[:-1] == observations[1:]).all(-1)
    ok = torch.ones(n, dtype=torch.bool, device=observations.device)
    for step in range(length - 1):
        ok &= follows[step : step + n]
    return ok.nonzero().squeeze(-1)


def cut_segments(
    data: dict[str, torch.Tensor],
    length: int,
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[Segments, torch.Tensor]:
    """Random segments of the data, and which rows they cover.

    Args:
        data: transitions in the kit's keys and in their order of collection.
        length: H.
        count: how many segments, n; fewer where the data has fewer.
        generator: source of the choice.

    Returns:
        The segments, and a mask over rows, (N,) bool, true where a segment covers the row.
    """
    obs, next_obs = data["observations"], data["next_observations"]
    starts = consecutive_starts(obs, next_obs, length)
    order = torch.randperm(len(starts), generator=generator, device=obs.device)
    starts = starts[order[:count]]
    # (n,) -> (n, H)
    rows = starts.unsqueeze(-1) + torch.arange(length, device=obs.device)
    observations = torch.cat([obs[rows], next_obs[rows[:, -1:]]], dim=1)
    covered = torch.zeros(len(obs), dtype=torch.bool, device=obs.device)
    covered[rows.flatten()] = True
    return Segments(observations, data["actions"][rows], data["rewards"][rows]), covered


@torch.no_grad()
def prediction_error(dynamics: BaseDynamics, segments: Segments) -> torch.Tensor:
    """Root mean squared error of the elites' mean at open-loop steps 1..H, (H,).

    The model starts at each segment's first observation and follows the data's actions; the error
    is in the units the model is trained in (standardised observations for RAMBO and ROMI).
    """
    obs, errors = segments.observations[:, 0], []
    for step in range(segments.actions.shape[1]):
        obs = dynamics.expected_next(obs, segments.actions[:, step])
        errors.append((obs - segments.observations[:, step + 1]).square().mean().sqrt())
    return torch.stack(errors)


@torch.no_grad()
def elite_errors(dynamics: EnsembleDynamics, segments: Segments) -> dict[str, torch.Tensor]:
    """Of single steps, `nll` of each elite and `mse` of their mean prediction, per row, (), ()."""
    obs, next_obs = segments.observations[:, :-1], segments.observations[:, 1:]
    target = torch.cat([next_obs - obs, segments.rewards], -1).flatten(0, 1)
    inputs = dynamics.inputs(obs, segments.actions).flatten(0, 1)
    mean, logvar = members_predict(dynamics.model, dynamics.model.elites, inputs)
    nll = -gaussian_log_prob(mean, logvar, target).mean()
    return {"nll": nll, "mse": (mean.mean(0) - target).square().mean()}


def one_step_errors(
    dynamics: BaseDynamics, data: Mapping[str, torch.Tensor]
) -> tuple[float, float]:
    """Root mean squared error of the model's next observation, and of the present one as it.

    Args:
        dynamics: the model.
        data: transitions in the kit's keys; about `ROWS` of them count, evenly spread.
    """
    step = -(-len(data["rewards"]) // ROWS)
    names = ("observations", "actions", "next_observations", "rewards")
    obs, action, next_obs, reward = (data[name][::step] for name in names)
    # (n, S), (n, S) -> (n, 2, S); (n, A) -> (n, 1, A)
    ends = torch.stack([obs, next_obs], dim=1)
    segments = Segments(ends, action.unsqueeze(1), reward.unsqueeze(1))
    unchanged = (next_obs - obs).square().mean().sqrt()
    return float(prediction_error(dynamics, segments)[0]), float(unchanged)
