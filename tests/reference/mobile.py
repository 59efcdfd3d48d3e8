"""MOBILE restated in float64, one row at a time (Sun et al., ICML 2023)."""

import statistics
from collections.abc import Sequence

import torch
from torch import nn

from tests.reference import ensemble, sac


def least_q(critics: Sequence[nn.Module], obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return min((sac.q(critic, obs, action) for critic in critics), key=torch.Tensor.item)


def penalty(
    policy, obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor, action_noise: torch.Tensor
) -> float:
    """Of one row: noise of the model (K, M, D) and of the next actions (K, M, A)."""
    model, means = policy.dynamics.model, []
    inputs = ensemble.scaled(policy.dynamics, obs, action)
    for m, member in enumerate(model.elites.tolist()):
        mean, logvar = ensemble.member_forward(model, member, inputs)
        values = []
        for k in range(len(noise)):
            sample = mean + torch.exp(0.5 * logvar) * noise[k, m]
            next_obs = obs + sample[:-1]
            next_action, _ = sac.squashed_sample(policy.actor, next_obs, action_noise[k, m])
            values.append(least_q(policy.critics_old, next_obs, next_action).item())
        means.append(statistics.fmean(values))
    return statistics.stdev(means)


def next_value(policy, next_obs: torch.Tensor, noise: torch.Tensor, alpha: float) -> float:
    action, log_prob = sac.squashed_sample(policy.actor, next_obs, noise)
    return (least_q(policy.critics_old, next_obs, action) - alpha * log_prob).item()


def max_next_value(policy, next_obs: torch.Tensor, noise: torch.Tensor) -> float:
    """Noise (R, A): each critic's best action, then the least critic."""
    actions = [sac.squashed_sample(policy.actor, next_obs, z)[0] for z in noise]
    best = [max(sac.q(c, next_obs, a).item() for a in actions) for c in policy.critics_old]
    return min(best)


def critic_loss(
    critics: Sequence[nn.Module], batch: dict[str, torch.Tensor], targets: list[float]
) -> torch.Tensor:
    losses = [sac.critic_loss(critic, batch, targets) for critic in critics]
    return sum(losses, torch.zeros((), dtype=torch.float64)) / len(losses)


def actor_loss(
    actor: nn.Module,
    critics: Sequence[nn.Module],
    obs: torch.Tensor,
    noise: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, z in zip(obs, noise, strict=True):
        action, log_prob = sac.squashed_sample(actor, row, z)
        total = total + alpha * log_prob - least_q(critics, row, action)
    return total / len(obs)
