"""What maximum-entropy policies share: a squashed Gaussian actor and its temperature."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import apply_gradients, descend
from offlinerlkit_romi.modules import TanhNormalWrapper
from offlinerlkit_romi.policy.base_policy import ArrayLike, BasePolicy, Metrics, Ours

Alpha = float | tuple[float, torch.Tensor, torch.optim.Optimizer]


def act(
    actor: nn.Module, obs: torch.Tensor, noise: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Action (B, A) and its log-density (B, 1); no noise means the mode.

    Noise (R, B, A) gives R actions per state and one pass of the actor: (R, B, A), (R, B, 1).
    """
    dist: TanhNormalWrapper = actor(obs)
    action, raw_action = dist.mode() if noise is None else dist.rsample(noise)
    return action, dist.log_prob(action, raw_action)


def alpha_loss(
    log_alpha: torch.Tensor, log_prob: torch.Tensor, target_entropy: float
) -> torch.Tensor:
    """-mean_B of log_alpha (log pi + target entropy): at rest where the entropy meets it."""
    return -(log_alpha * (log_prob.detach() + target_entropy)).mean()


class SoftPolicy(BasePolicy):
    """A squashed Gaussian actor, its optimiser and the entropy temperature.

    Args:
        actor: observation -> `TanhNormalWrapper`.
        actor_optim: optimiser of the actor.
        alpha: fixed temperature, or (target entropy, log temperature, its optimiser).
        ours: see `Ours`.
    """

    max_alpha = 1.0  # a tuned temperature is kept in [0, max_alpha] (kit behaviour)
    _alpha: torch.Tensor

    def __init__(
        self,
        actor: nn.Module,
        actor_optim: torch.optim.Optimizer,
        alpha: Alpha,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(**ours)
        self.actor, self.actor_optim = actor, actor_optim
        self._log_alpha: torch.Tensor | None = None
        self.alpha_optim: torch.optim.Optimizer | None = None
        if isinstance(alpha, tuple):
            self._target_entropy, self._log_alpha, self.alpha_optim = alpha
            value = self._log_alpha.detach().exp().clone()
        else:
            value = torch.tensor([float(alpha)], device=self.tensor_device)
        # a buffer outside the state dict: the kit's checkpoints do not hold the temperature
        self.register_buffer("_alpha", value, persistent=False)

    def training_state(self) -> dict[str, Any]:
        """Actor, temperature, their optimisers and the generator, by name."""
        state = super().training_state() | self._parts("actor", "actor_optim")
        state["alpha"] = self._alpha
        if self._log_alpha is not None:
            state.update(log_alpha=self._log_alpha, alpha_optim=self.alpha_optim)
        return state

    def actforward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Action (B, A) and its log-density (B, 1)."""
        dist = self.actor(obs)
        drawn = dist.mode() if deterministic else dist.rsample(dist.noise(self.generator))
        return drawn[0], dist.log_prob(*drawn)

    @torch.no_grad()
    def choose_action(self, obs: ArrayLike, deterministic: bool = False) -> torch.Tensor:
        """The action of `actforward` alone, without its density, (n, S) -> (n, A)."""
        dist: TanhNormalWrapper = self.actor(obs)
        return (dist.mode() if deterministic else dist.rsample(dist.noise(self.generator)))[0]

    def _descend_actor(self, loss: torch.Tensor, log_prob: torch.Tensor) -> Metrics:
        """One step of the actor on its loss, then one of the temperature."""
        descend(loss, self.actor, self.actor_optim)
        metrics = {"loss/actor": loss.detach(), "entropy": -log_prob.detach().mean()}
        if self._log_alpha is not None and self.alpha_optim is not None:
            temperature_loss = alpha_loss(self._log_alpha, log_prob, self._target_entropy)
            grads = torch.autograd.grad(temperature_loss, [self._log_alpha])
            apply_gradients(self.alpha_optim, [self._log_alpha], grads)
            with torch.no_grad():
                self._alpha.copy_(self._log_alpha.exp().clamp(0.0, self.max_alpha))
            # read after the step: a view would change with the next one
            metrics.update({"loss/alpha": temperature_loss.detach(), "alpha": self._alpha.mean()})
        return metrics

    def _repeated_noise(self, like: torch.Tensor, repeats: int) -> torch.Tensor:
        """Noise for `repeats` actions per row, (B, A) -> (R, B, A)."""
        # drawn row by row, as the kit does: (B, A) -> (B, R, A) -> (R, B, A)
        return self._noise(like.unsqueeze(1).expand(-1, repeats, -1)).transpose(0, 1)
