"""MCQ restated in float64, one row at a time (Lyu et al., arXiv 2206.04745)."""

import torch
from torch import nn

from tests.reference import sac


def encode(vae: nn.Module, obs: torch.Tensor, action: torch.Tensor):
    """(S,), (A,) -> mean and log std of the code, (Z,) each."""
    hidden = torch.relu(vae.e2(torch.relu(vae.e1(torch.cat([obs, action])))))
    return vae.mean(hidden), vae.log_std(hidden).clamp(-4, 15)


def decode(vae: nn.Module, obs: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    hidden = torch.relu(vae.d2(torch.relu(vae.d1(torch.cat([obs, code])))))
    return torch.tanh(vae.d3(hidden))


def vae_loss(vae: nn.Module, batch: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    rows = len(noise)
    for i in range(rows):
        obs, action = batch["observations"][i], batch["actions"][i]
        mean, log_std = encode(vae, obs, action)
        output = decode(vae, obs, mean + torch.exp(log_std) * noise[i])
        for mine, theirs in zip(output, action, strict=True):
            total = total + (mine - theirs) ** 2 / (rows * len(action))
        for m, s in zip(mean, log_std, strict=True):
            divergence = 0.5 * (m**2 + torch.exp(2 * s) - 1 - 2 * s)
            total = total + divergence / (rows * len(mean))
    return total


def mild_value(
    vae: nn.Module, targets: sac.Critics, obs: torch.Tensor, codes: torch.Tensor
) -> float:
    """Of one state, codes (M, Z): the lesser of both critics' best behaviour action."""
    actions = [decode(vae, obs, code.clamp(-0.5, 0.5)) for code in codes]
    best = [max(sac.q(critic, obs, a).item() for a in actions) for critic in targets]
    return min(best)


def critic_loss(
    critic: nn.Module,
    batch: dict[str, torch.Tensor],
    targets: list[float],
    others: list[tuple[torch.Tensor, torch.Tensor, float]],
    lmbda: float,
) -> torch.Tensor:
    """`others`: (state, action, mild value) of every row and every next row."""
    outside = torch.zeros((), dtype=torch.float64)
    for obs, action, value in others:
        outside = outside + (sac.q(critic, obs, action) - value) ** 2
    inside = sac.critic_loss(critic, batch, targets)
    return lmbda * inside + (1 - lmbda) * outside / len(others)
