r"""Soft actor-critic, the base of every off-policy method here.

Paper: Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905. As in
OfflineRL-Kit the critics are stepped before the actor, and the temperature is clamped to [0, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import descend_apart, frozen_copy, polyak_update
from offlinerlkit_romi.modules import Twins, lay_side_by_side, twin_values
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.soft_policy import Alpha, SoftPolicy, act


def min_q(critics: Twins, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """min_c Q_c(s, a), (B, S), (B, A) -> (B, 1)."""
    return torch.minimum(*twin_values(critics, obs, action))


def backup(batch: Batch, next_value: torch.Tensor, gamma: float) -> torch.Tensor:
    """R + gamma (1 - done) V(s'), (B, 1)."""
    target = batch["rewards"] + gamma * (1 - batch["terminals"]) * next_value
    assert target.shape == batch["rewards"].shape, (target.shape, batch["rewards"].shape)
    return target


def critic_losses(
    critics: Twins, batch: Batch, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """mean_B of (Q_c(s, a) - y)^2 of both critics, and Q_1 (B, 1)."""
    q1, q2 = twin_values(critics, batch["observations"], batch["actions"])
    assert q1.shape == q2.shape == target.shape, (q1.shape, q2.shape, target.shape)
    return (q1 - target).square().mean(), (q2 - target).square().mean(), q1


@torch.no_grad()
def critic_target(
    actor: nn.Module,
    targets: Twins,
    batch: Batch,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
    gamma: float,
) -> torch.Tensor:
    """Target r + gamma (1 - done) (min_c Q'_c(s', a') - alpha log pi(a'|s')), (B, 1).

    The action a' comes from `noise` (B, A).
    """
    next_action, log_prob = act(actor, batch["next_observations"], noise)
    next_q = min_q(targets, batch["next_observations"], next_action) - alpha * log_prob
    return backup(batch, next_q, gamma)


def actor_loss(
    actor: nn.Module,
    critics: Twins,
    obs: torch.Tensor,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_B of alpha log pi(a|s) - min_c Q_c(s, a), and log pi (B, 1); a from `noise` (B, A)."""
    action, log_prob = act(actor, obs, noise)
    q = min_q(critics, obs, action)
    assert q.shape == log_prob.shape, (q.shape, log_prob.shape)
    return (alpha * log_prob - q).mean(), log_prob


class SACPolicy(SoftPolicy):
    """Soft actor-critic with twin critics and their slow copies.

    Args:
        actor: observation -> `TanhNormalWrapper`.
        critic1: (s, a) -> (B, 1).
        critic2: (s, a) -> (B, 1).
        actor_optim: optimiser of the actor.
        critic1_optim: optimiser of the first critic.
        critic2_optim: optimiser of the second critic.
        tau: share the targets move per update.
        gamma: discount per step.
        alpha: fixed temperature, or (target entropy, log temperature, its optimiser).
        ours: see `Ours`; SAC itself computes the same under both `compat`s.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(actor, actor_optim, alpha, **ours)
        self.critic1, self.critic1_old = critic1, frozen_copy(critic1)
        self.critic2, self.critic2_old = critic2, frozen_copy(critic2)
        self.critic1_optim, self.critic2_optim = critic1_optim, critic2_optim
        lay_side_by_side(self.critics)
        lay_side_by_side(self.target_critics)
        self._tau, self._gamma = tau, gamma

    @property
    def critics(self) -> Twins:
        """The online critics."""
        return self.critic1, self.critic2

    @property
    def target_critics(self) -> Twins:
        """Their slow copies."""
        return self.critic1_old, self.critic2_old

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        critics = self._parts("critic1", "critic2", "critic1_old", "critic2_old")
        return super().training_state() | critics | self._parts("critic1_optim", "critic2_optim")

    def update(self, batch: Batch) -> Metrics:
        """Critics, actor, temperature, targets, in this order."""
        return self._update(batch)[0]

    def _update(self, batch: Batch) -> tuple[Metrics, torch.Tensor]:
        """`update`, and the first critic's values of the batch before it, (B, 1)."""
        metrics, q = self._update_critics(batch)
        metrics |= self._update_actor(batch["observations"], self._noise(batch["actions"]))
        self._sync_weight()
        return metrics, q

    def _update_critics(self, batch: Batch) -> tuple[Metrics, torch.Tensor]:
        noise = self._noise(batch["actions"])
        target = critic_target(
            self.actor, self.target_critics, batch, noise, self._alpha, self._gamma
        )
        loss1, loss2, q = critic_losses(self.critics, batch, target)
        return self._descend_critics(loss1, loss2), q.detach()

    def _descend_critics(self, loss1: torch.Tensor, loss2: torch.Tensor) -> Metrics:
        parts = (self.critic1, self.critic1_optim), (self.critic2, self.critic2_optim)
        descend_apart(loss1 + loss2, parts)
        return {"loss/critic1": loss1.detach(), "loss/critic2": loss2.detach()}

    def _update_actor(self, obs: torch.Tensor, noise: torch.Tensor) -> Metrics:
        loss, log_prob = actor_loss(self.actor, self.critics, obs, noise, self._alpha)
        return self._descend_actor(loss, log_prob)

    def _sync_weight(self) -> None:
        """Move the targets towards the critics."""
        polyak_update(self.critic1_old, self.critic1, self._tau)
        polyak_update(self.critic2_old, self.critic2, self._tau)
