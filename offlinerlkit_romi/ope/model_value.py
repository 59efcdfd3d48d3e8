"""The value of a policy in a learned model: it is rolled there from the starts of episodes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from offlinerlkit_romi.dynamics import EnsembleDynamics

NEGLECTED = 0.01  # share of the discounted sum beyond the horizon
LONGEST = 1000


def discount_horizon(gamma: float) -> int:
    """Steps after which less than `NEGLECTED` of a constant reward's value is left to come."""
    if gamma <= 0:
        return 1
    return LONGEST if gamma >= 1 else min(LONGEST, math.ceil(math.log(NEGLECTED) / math.log(gamma)))


@torch.no_grad()
def model_value(
    dynamics: EnsembleDynamics,
    act: Callable[[torch.Tensor], torch.Tensor],
    starts: torch.Tensor,
    gamma: float,
    box: tuple[torch.Tensor, torch.Tensor] | None = None,
    horizon: int | None = None,
    reward_map: tuple[float, float] = (1.0, 0.0),
    watch: Callable[[float], None] = lambda share: None,
) -> torch.Tensor:
    """Discounted return in the model from every start, (m,).

    Args:
        dynamics: The model; its rewards are taken without a penalty.
        act: (n, S) -> (n, A), for observations as the model sees them.
        starts: First observations (m, S), as the model sees them.
        gamma: Discount per step.
        box: Lowest and highest observation (S,) of the data: predictions are clipped to it, because
            hundreds of steps of a model that is wrong outside its data end at infinity.
        horizon: Steps; by default `discount_horizon(gamma)`.
        reward_map: The model pays rewards times the first plus the second; the value is of
            rewards, so that what is added counts at no step.
        watch: Told after every step how much is done, up to 1; may raise to leave.
    """
    obs, (scale, bias) = starts, reward_map
    steps = discount_horizon(gamma) if horizon is None else horizon
    value, alive = torch.zeros_like(starts[:, 0]), torch.ones_like(starts[:, 0])
    for step in range(steps):
        next_obs, _, terminal, info = dynamics.sample_step(obs, act(obs))
        reward = (info["raw_reward"].squeeze(-1) - bias) / scale
        value += gamma**step * alive * reward
        alive = alive * (~terminal.squeeze(-1)).to(alive)
        if not bool(alive.any()):
            break
        obs = next_obs if box is None else torch.clamp(next_obs, *box)
        watch((step + 1) / steps)
    return value
