r"""TD3: twin critics, smoothed targets and a delayed deterministic actor.

Paper: Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", arXiv
1802.09477. As in OfflineRL-Kit the first update steps the actor, and all three targets move with
it. Deviation: the smoothing noise is in units of the action's bound, as in the authors' code
(`compat="kit"` takes it as it is; the same wherever the bound is 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import Counts, descend, descend_apart, frozen_copy, polyak_update
from offlinerlkit_romi.modules import Twins, lay_side_by_side
from offlinerlkit_romi.nets import own_dropout
from offlinerlkit_romi.policy.base_policy import ArrayLike, BasePolicy, Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_free.sac import backup, critic_losses, min_q
from offlinerlkit_romi.utils.noise import GaussianNoise


@torch.no_grad()
def critic_target(
    actor_old: nn.Module,
    targets: Twins,
    batch: Batch,
    noise: torch.Tensor,
    gamma: float,
    max_action: float,
) -> torch.Tensor:
    """Target r + gamma (1 - done) min_c Q'_c(s', clip(pi'(s') + noise)), (B, 1).

    The noise (B, A) is scaled and clipped already; the sum is clipped to the action box.
    """
    next_obs = batch["next_observations"]
    next_action = (actor_old(next_obs) + noise).clamp(-max_action, max_action)
    return backup(batch, min_q(targets, next_obs, next_action), gamma)


def actor_loss(actor: nn.Module, critic: nn.Module, obs: torch.Tensor) -> torch.Tensor:
    """-mean_B of Q(s, pi(s)); the first critic alone."""
    return -critic(obs, actor(obs)).mean()


class TD3Policy(BasePolicy):
    """Twin delayed deep deterministic policy gradient.

    Args:
        actor: observation -> action.
        critic1: (s, a) -> (B, 1).
        critic2: (s, a) -> (B, 1).
        actor_optim: optimiser of the actor.
        critic1_optim: optimiser of the first critic.
        critic2_optim: optimiser of the second critic.
        tau: share the targets move per actor update.
        gamma: discount per step.
        max_action: bound of the action box.
        exploration_noise: called with a shape, gives the noise of non-deterministic actions; a
            class of `utils.noise` is made with its defaults (the kit's signature).
        policy_noise: standard deviation of the target's smoothing noise.
        noise_clip: bound of the smoothing noise.
        update_actor_freq: critic updates per actor update.
        ours: see `Ours`; `compat="kit"` does not scale the smoothing noise by `max_action`.
    """

    _last_actor_loss: torch.Tensor

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
        max_action: float = 1.0,
        exploration_noise: Callable[..., Any] = GaussianNoise,
        policy_noise: float = 0.2,
        noise_clip: float = 0.5,
        update_actor_freq: int = 2,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(**ours)
        self.actor, self.actor_old = actor, frozen_copy(actor).eval()
        self.critic1, self.critic1_old = critic1, frozen_copy(critic1).eval()
        self.critic2, self.critic2_old = critic2, frozen_copy(critic2).eval()
        lay_side_by_side(self.critics)
        lay_side_by_side(self.target_critics)
        self.actor_optim = actor_optim
        self.critic1_optim, self.critic2_optim = critic1_optim, critic2_optim
        self._tau, self._gamma, self._max_action = tau, gamma, max_action
        self.exploration_noise = (
            exploration_noise() if isinstance(exploration_noise, type) else exploration_noise
        )
        noise_unit = 1.0 if self._like_kit else max_action
        self._noise_scale, self._noise_clip = policy_noise * noise_unit, noise_clip * noise_unit
        self._freq = update_actor_freq
        # On the host, so reading it waits for nothing. Masking the actor's step on the device
        # would cost it every update.
        self._counts = Counts(updates=0)
        loss = next(self.parameters()).new_zeros(())
        self.register_buffer("_last_actor_loss", loss, persistent=False)
        own_dropout(self, self.generator)

    @property
    def critics(self) -> Twins:
        """The online critics."""
        return self.critic1, self.critic2

    @property
    def target_critics(self) -> Twins:
        """The critics' slow copies."""
        return self.critic1_old, self.critic2_old

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        state = super().training_state()
        for name in ("actor", "critic1", "critic2"):
            state |= self._parts(name, f"{name}_old", f"{name}_optim")
        return state | {"updates": self._counts, "last_actor_loss": self._last_actor_loss}

    def choose_action(self, obs: ArrayLike, deterministic: bool = False) -> torch.Tensor:
        """With exploration noise unless deterministic, (n, S) -> (n, A)."""
        action: torch.Tensor = self.actor(obs)
        if deterministic:
            return action
        noise = torch.as_tensor(self.exploration_noise(action.shape), device=action.device)
        return (action + noise).clamp(-self._max_action, self._max_action)

    def update(self, batch: Batch) -> Metrics:
        """Critics; at every `update_actor_freq`-th call, the first included, actor and targets."""
        metrics = self._update_critics(batch, self._noise(batch["actions"]))
        if self.steps_actor_next:
            self._update_actor(batch)
            self._sync_weight()
        self._counts["updates"] += 1
        return {"loss/actor": self._last_actor_loss.clone(), **metrics}

    @property
    def steps_actor_next(self) -> bool:
        """Whether the next update steps the actor."""
        return self.phase == 0

    @property
    def phase(self) -> int:
        """Updates since the actor's last step, 0 where it is due: one captured graph each."""
        return self._counts["updates"] % self._freq

    def actor_loss(self, batch: Batch) -> torch.Tensor:
        """What the actor descends."""
        return actor_loss(self.actor, self.critic1, batch["observations"])

    def _update_critics(self, batch: Batch, noise: torch.Tensor) -> Metrics:
        noise = (noise * self._noise_scale).clamp(-self._noise_clip, self._noise_clip)
        target = critic_target(
            self.actor_old, self.target_critics, batch, noise, self._gamma, self._max_action
        )
        loss1, loss2, q1 = critic_losses(self.critics, batch, target)
        parts = (self.critic1, self.critic1_optim), (self.critic2, self.critic2_optim)
        descend_apart(loss1 + loss2, parts)
        losses = {"loss/critic1": loss1.detach(), "loss/critic2": loss2.detach()}
        return losses | {"q/real": q1.detach().mean()}

    def _update_actor(self, batch: Batch) -> None:
        loss = self.actor_loss(batch)
        descend(loss, self.actor, self.actor_optim)
        self._last_actor_loss.copy_(loss.detach())

    def _sync_weight(self) -> None:
        """Move all three targets."""
        polyak_update(self.actor_old, self.actor, self._tau)
        polyak_update(self.critic1_old, self.critic1, self._tau)
        polyak_update(self.critic2_old, self.critic2, self._tau)
