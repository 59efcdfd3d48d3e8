"""TD3, TD3+BC and cloning restated in float64, one row at a time.

Fujimoto et al., arXiv 1802.09477; Fujimoto & Gu, arXiv 2106.06860.
"""

import torch
from torch import nn

from tests.reference import sac


def action(actor: nn.Module, obs: torch.Tensor, max_action: float = 1.0) -> torch.Tensor:
    """(S,) -> (A,)."""
    raw = actor.last(actor.backbone(obs))
    return max_action * (1 - 2 / (torch.exp(2 * raw) + 1))


def clip(x: torch.Tensor, bound: float) -> torch.Tensor:
    return torch.stack([min(max(value, x.new_tensor(-bound)), x.new_tensor(bound)) for value in x])


def critic_targets(
    policy,
    batch: dict[str, torch.Tensor],
    noise: torch.Tensor,
    gamma: float,
    max_action: float,
    unit: float,
) -> list[float]:
    """One y per row; smoothing noise 0.2 `noise` clipped to 0.5, in units of `unit`."""
    result = []
    for i in range(len(batch["rewards"])):
        next_obs = batch["next_observations"][i]
        smoothing = clip(0.2 * noise[i], 0.5) * unit
        next_action = clip(action(policy.actor_old, next_obs, max_action) + smoothing, max_action)
        value = sac.lesser_q((policy.critic1_old, policy.critic2_old), next_obs, next_action)
        y = batch["rewards"][i, 0] + gamma * (1 - batch["terminals"][i, 0]) * value
        result.append(y.item())
    return result


def cloning_loss(actor: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for obs, data_action in zip(batch["observations"], batch["actions"], strict=True):
        for mine, theirs in zip(action(actor, obs), data_action, strict=True):
            total = total + (mine - theirs) ** 2
    return total / batch["actions"].numel()


def mean_q(actor: nn.Module, critic: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    rows = [sac.q(critic, obs, action(actor, obs)) for obs in batch["observations"]]
    return sum(rows, torch.zeros((), dtype=torch.float64)) / len(rows)


def td3bc_actor_loss(
    actor: nn.Module, critic: nn.Module, batch: dict[str, torch.Tensor], alpha: float
) -> torch.Tensor:
    rows = [sac.q(critic, obs, action(actor, obs)) for obs in batch["observations"]]
    size = sum(abs(q.item()) for q in rows) / len(rows)
    return -alpha / size * mean_q(actor, critic, batch) + cloning_loss(actor, batch)
