"""ROMBRL's losses restated in float64, one row at a time (Chen et al., arXiv 2505.13709)."""

import math

import torch
from torch import nn

from tests.reference import ensemble


def raw_log_density(actor: nn.Module, obs: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    """Log-density of an action before its squashing, (S,), (A,) -> ()."""
    features = actor.backbone(obs)
    mean = actor.dist_net.mu(features)
    log_sigma = actor.dist_net.sigma(features).clamp(-5.0, 2.0)
    total = torch.zeros((), dtype=mean.dtype)
    for j in range(len(raw)):
        z = (raw[j] - mean[j]) / torch.exp(log_sigma[j])
        total = total - 0.5 * z**2 - log_sigma[j] - 0.5 * math.log(2 * math.pi)
    return total


def clipped(ratio: float, clip: float) -> float:
    return min(max(ratio, 1 - clip), 1 + clip)


def leader_loss(
    log_densities: list[torch.Tensor], old: list[float], pushes: list[float], clip: float
) -> torch.Tensor:
    """Minus the mean of push log pi over the rows where PPO's objective has a gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for log_density, before, push in zip(log_densities, old, pushes, strict=True):
        ratio = math.exp(log_density.item() - before)
        if push * ratio <= push * clipped(ratio, clip):
            total = total - push * log_density
    return total / len(pushes)


def adversarial_loss(
    log_densities: list[torch.Tensor],
    old: list[float],
    pushes: list[float],
    clip: float,
    side: str,
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for log_density, before, push in zip(log_densities, old, pushes, strict=True):
        ratio = torch.exp(log_density - before)
        candidates = [push * ratio, push * torch.clamp(ratio, 1 - clip, 1 + clip)]
        total = total + (max if side == "max" else min)(candidates, key=torch.Tensor.item)
    return total / len(pushes)


def divergence(frozen: nn.Module, model: nn.Module, member: int, inputs: torch.Tensor):
    """KL of one member of the frozen ensemble to the present one at one input, summed over D."""
    mean, logvar = (x.detach() for x in ensemble.member_forward(frozen, member, inputs))
    new_mean, new_logvar = ensemble.member_forward(model, member, inputs)
    total = torch.zeros((), dtype=torch.float64)
    for d in range(len(mean)):
        variance, new_variance = torch.exp(logvar[d]), torch.exp(new_logvar[d])
        quadratic = (variance + (mean[d] - new_mean[d]) ** 2) / new_variance
        total = total + 0.5 * (torch.log(new_variance / variance) + quadratic - 1)
    return total


def follower_loss(
    policy, rows: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], frozen: nn.Module
) -> torch.Tensor:
    """Adversarial term and anchor, weighed by the multiplier."""
    game, dynamics = policy._game, policy.dynamics
    model, multiplier = dynamics.model, policy._multiplier.item()
    log_densities = []
    for inputs, sample, place in zip(rows["inputs"], rows["sample"], rows["place"], strict=True):
        predicted = ensemble.member_forward(model, int(model.elites[place]), inputs)
        log_densities.append(ensemble.gaussian_log_density(*predicted, sample))
    old, pushes = (rows[x][:, 0].tolist() for x in ("sample_log_prob", "push"))
    adversarial = adversarial_loss(log_densities, old, pushes, game.clip_range, game.follower_clip)
    if game.anchor == "nll":
        ones = [1.0] * len(batch["rewards"])
        return adversarial / multiplier + ensemble.weighted_loss(dynamics, batch, ones, 0.001)
    anchor = torch.zeros((), dtype=torch.float64)
    for obs, action in zip(batch["observations"], batch["actions"], strict=True):
        for member in range(model.num_ensemble):
            inputs = ensemble.scaled(dynamics, obs, action)
            anchor = anchor + divergence(frozen, model, member, inputs)
    anchor = anchor / (len(batch["rewards"]) * model.num_ensemble)
    return (adversarial + multiplier * anchor) / (1 + multiplier)


def advantages(
    rewards: list[float], terminals: list[bool], values: list[float], gamma: float, gae: float
) -> list[float]:
    """Of one trajectory: sum over the rest of the episode of (gamma gae)^k delta."""
    deltas = [
        r + (0.0 if end else gamma * after) - before
        for r, end, before, after in zip(rewards, terminals, values, values[1:], strict=False)
    ]
    found = []
    for start in range(len(deltas)):
        total, weight = 0.0, 1.0
        for t in range(start, len(deltas)):
            total, weight = total + weight * deltas[t], weight * gamma * gae
            if terminals[t]:
                break
        found.append(total)
    return found
