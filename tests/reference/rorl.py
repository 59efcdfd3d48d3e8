"""RORL restated in float64, state by state and member by member (Yang et al., arXiv 2206.02829)."""

import torch
from torch import nn

from tests.reference.edac import Batch, members
from tests.reference.sac import squashed_sample


def gaussian(actor: nn.Module, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance before the tanh, (S,) -> (A,), (A,)."""
    features = actor.backbone(obs)
    log_sigma = actor.dist_net.sigma(features).clamp(-5.0, 2.0)
    return actor.dist_net.mu(features), torch.exp(2 * log_sigma)


def kl(p: tuple[torch.Tensor, torch.Tensor], q: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """KL(p||q) of diagonal Gaussians as every textbook has it."""
    total = torch.zeros((), dtype=torch.float64)
    for m, v, n, w in zip(*p, *q, strict=True):
        total = total + 0.5 * (torch.log(w / v) + (v + (m - n) ** 2) / w - 1)
    return total


def shifted(obs: torch.Tensor, shifts: torch.Tensor, row: int) -> list[torch.Tensor]:
    """The perturbed states of a row; `shifts` (n, 1, S) are shared, (n, B, S) are its own."""
    return [obs[row] + shift[row if len(shift) > 1 else 0] for shift in shifts]


def policy_smoothing(actor: nn.Module, obs: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(obs)):
        here = gaussian(actor, obs[row])
        there = [gaussian(actor, state) for state in shifted(obs, shifts, row)]
        total = total + max(kl(here, other) + kl(other, here) for other in there)
    return total / len(obs)


def value_smoothing(
    critics: nn.Module, batch: Batch, shifts: torch.Tensor, share: float
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, action in enumerate(batch["actions"]):
        here = members(critics, batch["observations"][row], action)
        costs = []
        for state in shifted(batch["observations"], shifts, row):
            cost = torch.zeros((), dtype=torch.float64)
            for q, old in zip(members(critics, state, action), here, strict=True):
                rise = q - old
                cost = cost + (1 - share if rise > 0 else share) * rise**2
            costs.append(cost / len(here))
        total = total + max(costs)
    return total / len(batch["actions"])


def pessimism(
    critics: nn.Module,
    actor: nn.Module,
    obs: torch.Tensor,
    shifts: torch.Tensor,
    noise: torch.Tensor,
    weight: float,
) -> torch.Tensor:
    total, terms = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(obs)):
        for k, state in enumerate(shifted(obs, shifts, row)):
            action, _ = squashed_sample(actor, state, noise[k, row])
            values = members(critics, state, action.detach())
            mean = sum(value.item() for value in values) / len(values)
            squares = sum((value.item() - mean) ** 2 for value in values)
            for value in values:
                lower = value.item() - weight * (squares / (len(values) - 1)) ** 0.5
                total, terms = total + (value - lower) ** 2, terms + 1
    return total / terms
