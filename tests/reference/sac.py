"""SAC restated in float64, one row at a time.

Haarnoja et al., arXiv 1812.05905, with OfflineRL-Kit's choices: 1e-6 inside the
logarithm of the squashing's slope, targets from the lesser of both slow critics.
"""

import math

import torch
from torch import nn

Critics = tuple[nn.Module, nn.Module]


def squashed_sample(
    actor: nn.Module, obs: torch.Tensor, noise: torch.Tensor | None, max_action: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(S,), (A,) -> action (A,), log-density (); without noise the mode."""
    features = actor.backbone(obs)
    mean = actor.dist_net.mu(features)
    log_sigma = actor.dist_net.sigma(features).clamp(-5.0, 2.0)
    noise = torch.zeros_like(mean) if noise is None else noise
    action = max_action * torch.tanh(mean + torch.exp(log_sigma) * noise)
    log_prob = torch.zeros((), dtype=mean.dtype)
    for j in range(len(action)):
        gaussian = -0.5 * noise[j] ** 2 - log_sigma[j] - 0.5 * math.log(2 * math.pi)
        slope = max_action * (1 - (action[j] / max_action) ** 2)
        log_prob = log_prob + gaussian - torch.log(slope + 1e-6)
    return action, log_prob


def q(critic: nn.Module, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """(S,), (A,) -> ()."""
    return critic.last(critic.backbone(torch.cat([obs, action])))[0]


def lesser_q(critics: Critics, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    first, second = q(critics[0], obs, action), q(critics[1], obs, action)
    return first if first <= second else second


def critic_targets(
    actor: nn.Module,
    targets: Critics,
    batch: dict[str, torch.Tensor],
    noise: torch.Tensor,
    alpha: float,
    gamma: float,
) -> list[float]:
    """One y per row."""
    result = []
    for i in range(len(batch["rewards"])):
        next_obs = batch["next_observations"][i]
        action, log_prob = squashed_sample(actor, next_obs, noise[i])
        soft_value = lesser_q(targets, next_obs, action) - alpha * log_prob
        y = batch["rewards"][i, 0] + gamma * (1 - batch["terminals"][i, 0]) * soft_value
        result.append(y.item())
    return result


def critic_loss(
    critic: nn.Module, batch: dict[str, torch.Tensor], targets: list[float]
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, y in enumerate(targets):
        total = total + (q(critic, batch["observations"][i], batch["actions"][i]) - y) ** 2
    return total / len(targets)


def actor_loss(
    actor: nn.Module, critics: Critics, obs: torch.Tensor, noise: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, list[float]]:
    """The loss, and every row's log-density."""
    total, log_probs = torch.zeros((), dtype=torch.float64), []
    for row, z in zip(obs, noise, strict=True):
        action, log_prob = squashed_sample(actor, row, z)
        total = total + alpha * log_prob - lesser_q(critics, row, action)
        log_probs.append(log_prob.item())
    return total / len(obs), log_probs


def alpha_loss(
    log_alpha: torch.Tensor, log_probs: list[float], target_entropy: float
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for log_prob in log_probs:
        total = total - log_alpha[0] * (log_prob + target_entropy)
    return total / len(log_probs)


def cloning_loss(
    actor: nn.Module, obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Mean over rows and action dimensions of (sampled action - a)^2."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(obs)):
        sample, _ = squashed_sample(actor, obs[i], noise[i])
        for j in range(len(sample)):
            total = total + (sample[j] - action[i, j]) ** 2
    return total / action.numel()
