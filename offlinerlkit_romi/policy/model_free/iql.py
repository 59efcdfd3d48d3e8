r"""IQL: values of the data's own actions by expectile regression, and a policy cloned by them.

Paper: Kostrikov et al., "Offline Reinforcement Learning with Implicit Q-Learning", arXiv
2110.06169. With u = min_c Q'_c(s,a) - V(s): L_V = E |\tau - 1(u \le 0)| u^2 (Eq. 5),
L_Q = E (r + \gamma V(s') - Q(s,a))^2 (Eq. 6), L_\pi = -E min(exp(\beta u), 100) log \pi(a|s)
(Eq. 7). The numbers are OfflineRL-Kit's, which tests/upstream shows; the slow critics are asked
once, not twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import descend, descend_apart, frozen_copy, polyak_update
from offlinerlkit_romi.modules import Twins, lay_side_by_side
from offlinerlkit_romi.nets import own_dropout
from offlinerlkit_romi.policy.base_policy import ArrayLike, BasePolicy, Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_free.sac import backup, critic_losses, min_q

MAX_WEIGHT = 100.0  # larger advantages count as this one (official code and kit)


def value_loss(v: torch.Tensor, q: torch.Tensor, expectile: float) -> torch.Tensor:
    """Expectile regression of V(s) (B, 1) on the constants min_c Q'_c(s, a) (B, 1) (Eq. 5)."""
    assert v.shape == q.shape, (v.shape, q.shape)
    gap = q - v
    # |expectile - 1(gap <= 0)| without a branch on the gap
    weight = expectile + (1 - 2 * expectile) * (gap <= 0).to(gap.dtype)
    return (weight * gap.square()).mean()


def actor_loss(
    actor: nn.Module, batch: Batch, advantage: torch.Tensor, temperature: float
) -> torch.Tensor:
    """-mean_B min(exp(temperature u), 100) log pi(a|s), u the advantage (B, 1) (Eq. 7)."""
    weight = torch.exp(temperature * advantage).clamp(max=MAX_WEIGHT)
    log_prob = actor(batch["observations"]).log_prob(batch["actions"])
    assert log_prob.shape == weight.shape, (log_prob.shape, weight.shape)
    return -(weight * log_prob).mean()


class IQLPolicy(BasePolicy):
    """Implicit Q-learning: no action outside the data is ever evaluated.

    Args:
        actor: observation -> `NormalWrapper`.
        critic_q1: (s, a) -> (B, 1).
        critic_q2: (s, a) -> (B, 1).
        critic_v: s -> (B, 1).
        actor_optim: optimiser of the actor.
        critic_q1_optim: optimiser of the first critic.
        critic_q2_optim: optimiser of the second critic.
        critic_v_optim: optimiser of the value function.
        action_space: box whose `low[0]` and `high[0]` bound the selected actions.
        tau: share the slow critics move per update.
        gamma: discount per step.
        expectile: of the values of the data's actions; 0.5 is their mean, towards 1 their maximum.
        temperature: inverse temperature beta of the advantage weights.
        ours: see `Ours`; both `compat`s are the same here, and the update draws nothing but an
            actor's dropout.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic_q1: nn.Module,
        critic_q2: nn.Module,
        critic_v: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic_q1_optim: torch.optim.Optimizer,
        critic_q2_optim: torch.optim.Optimizer,
        critic_v_optim: torch.optim.Optimizer,
        action_space: Any,
        tau: float = 0.005,
        gamma: float = 0.99,
        expectile: float = 0.8,
        temperature: float = 0.1,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(**ours)
        self.actor = actor
        self.critic_q1, self.critic_q1_old = critic_q1, frozen_copy(critic_q1)
        self.critic_q2, self.critic_q2_old = critic_q2, frozen_copy(critic_q2)
        lay_side_by_side(self.critics)
        lay_side_by_side((self.critic_q1_old, self.critic_q2_old))
        self.critic_v = critic_v
        self.actor_optim, self.critic_v_optim = actor_optim, critic_v_optim
        self.critic_q1_optim, self.critic_q2_optim = critic_q1_optim, critic_q2_optim
        self.action_space = action_space
        self._action_range = float(action_space.low[0]), float(action_space.high[0])
        self._tau, self._gamma = tau, gamma
        self._expectile, self._temperature = expectile, temperature
        own_dropout(self, self.generator)

    @property
    def critics(self) -> Twins:
        """The online critics."""
        return self.critic_q1, self.critic_q2

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        state = super().training_state()
        for name in ("actor", "critic_q1", "critic_q2", "critic_v"):
            state |= self._parts(name, f"{name}_optim")
        return state | self._parts("critic_q1_old", "critic_q2_old")

    def choose_action(self, obs: ArrayLike, deterministic: bool = False) -> torch.Tensor:
        """Within the action box, (n, S) -> (n, A)."""
        dist = self.actor(obs)
        action: torch.Tensor = dist.mode() if deterministic else dist.sample(self.generator)
        return action.clamp(*self._action_range)

    def update(self, batch: Batch) -> Metrics:
        """Value, critics, actor, slow critics, in this order."""
        obs = batch["observations"]
        with torch.no_grad():
            q = min_q((self.critic_q1_old, self.critic_q2_old), obs, batch["actions"])
        v_loss = value_loss(self.critic_v(obs), q, self._expectile)
        descend(v_loss, self.critic_v, self.critic_v_optim)
        with torch.no_grad():
            v, next_v = self.critic_v(torch.cat([obs, batch["next_observations"]])).chunk(2)
        metrics = self._update_critics(batch, next_v)
        loss = actor_loss(self.actor, batch, q - v, self._temperature)
        descend(loss, self.actor, self.actor_optim)
        self._sync_weight()
        return metrics | {
            "loss/actor": loss.detach(),
            "loss/v": v_loss.detach(),
            "v": v.mean(),
            "advantage": (q - v).mean(),
        }

    def _update_critics(self, batch: Batch, next_v: torch.Tensor) -> Metrics:
        target = backup(batch, next_v, self._gamma)
        loss1, loss2, q1 = critic_losses(self.critics, batch, target)
        optims = self.critic_q1_optim, self.critic_q2_optim
        descend_apart(loss1 + loss2, list(zip(self.critics, optims, strict=True)))
        losses = {"loss/q1": loss1.detach(), "loss/q2": loss2.detach()}
        return losses | {"q/real": q1.detach().mean()}

    def _sync_weight(self) -> None:
        """Move the slow critics towards the critics."""
        polyak_update(self.critic_q1_old, self.critic_q1, self._tau)
        polyak_update(self.critic_q2_old, self.critic_q2, self._tau)
