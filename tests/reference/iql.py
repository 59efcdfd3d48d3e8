"""IQL restated in float64, one row at a time (Kostrikov et al., arXiv 2110.06169, Eqs. 5-7)."""

import math

import torch
from torch import nn

from tests.reference.sac import Critics, lesser_q, q

Batch = dict[str, torch.Tensor]


def v(critic: nn.Module, obs: torch.Tensor) -> torch.Tensor:
    """(S,) -> ()."""
    return critic.last(critic.backbone(obs))[0]


def value_loss(critic_v: nn.Module, slow: Critics, batch: Batch, expectile: float) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for obs, action in zip(batch["observations"], batch["actions"], strict=True):
        gap = lesser_q(slow, obs, action).detach() - v(critic_v, obs)
        total = total + (expectile if gap > 0 else 1 - expectile) * gap**2
    return total / len(batch["rewards"])


def critic_loss(critic: nn.Module, critic_v: nn.Module, batch: Batch, gamma: float) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(batch["rewards"])):
        alive = 1 - batch["terminals"][i, 0]
        y = batch["rewards"][i, 0] + gamma * alive * v(critic_v, batch["next_observations"][i])
        total = total + (q(critic, batch["observations"][i], batch["actions"][i]) - y.detach()) ** 2
    return total / len(batch["rewards"])


def log_prob(actor: nn.Module, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Log-density of an action under the bounded mean and the free deviations, ()."""
    mean = torch.tanh(actor.dist_net.mu(actor.backbone(obs)))
    total = torch.zeros((), dtype=torch.float64)
    for j in range(len(action)):
        log_sigma = actor.dist_net.sigma_param[j, 0]
        z = (action[j] - mean[j]) / torch.exp(log_sigma)
        total = total - 0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return total


def actor_loss(
    actor: nn.Module, critic_v: nn.Module, slow: Critics, batch: Batch, temperature: float
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for obs, action in zip(batch["observations"], batch["actions"], strict=True):
        advantage = (lesser_q(slow, obs, action) - v(critic_v, obs)).item()
        weight = min(math.exp(temperature * advantage), 100.0)
        total = total - weight * log_prob(actor, obs, action)
    return total / len(batch["rewards"])
