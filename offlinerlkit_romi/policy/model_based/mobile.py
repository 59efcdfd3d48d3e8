r"""MOBILE: SAC in a model, penalised where the members disagree on the next state's value.

Paper: Sun et al., "Model-Bellman Inconsistency for Model-based Offline Reinforcement Learning",
ICML 2023. On a model transition the reward is lowered by the spread of the Bellman backup over the
ensemble:

    y = r - beta std_e( mean_k min_c Q'_c(s'_ek, a'_ek) ) + gamma (1 - done) next value

OfflineRL-Kit and the authors' code clamp y at zero from below, which is wrong wherever returns can
be negative; here that is a switch, on with `compat="kit"`. Otherwise the same; penalties of dataset
rows, which count for nothing, are not computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.engine import descend, frozen_copy, polyak_update
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_based.on_model import OnModel, mix, value_metrics
from offlinerlkit_romi.policy.soft_policy import Alpha, act

# actions per next state of the max-Q backup (kit behaviour)
BACKUP_SAMPLES = 10


def values(critics: nn.ModuleList, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Q of every critic, (B, S), (B, A) -> (B, C)."""
    return torch.cat([critic(obs, action) for critic in critics], dim=1)


@torch.no_grad()
def bellman_spread(
    actor: nn.Module, targets: nn.ModuleList, next_obss: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Unbiased std over members of the mean over K samples of min_c Q'_c(s', a').

    Args:
        actor: chooses a' from the noise.
        targets: slow critics.
        next_obss: K successors under each of M members, (K, M, B, S).
        noise: (K, M, B, A).

    Returns:
        (B, 1).
    """
    # (K, M, B, .) -> (K*M*B, .)
    obs = next_obss.flatten(0, 2)
    action, _ = act(actor, obs, noise.flatten(0, 2))
    # (K*M*B, C) -> (K, M, B)
    value = values(targets, obs, action).amin(1).view(next_obss.shape[:3])
    return value.mean(0).std(0).unsqueeze(-1)


@torch.no_grad()
def next_value(
    actor: nn.Module,
    targets: nn.ModuleList,
    next_obs: torch.Tensor,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
) -> torch.Tensor:
    """min_c Q'_c(s', a') - alpha log pi(a'|s'), a' from the noise (B, A) -> (B, 1)."""
    action, log_prob = act(actor, next_obs, noise)
    return values(targets, next_obs, action).amin(1, keepdim=True) - alpha * log_prob


@torch.no_grad()
def max_next_value(
    actor: nn.Module, targets: nn.ModuleList, next_obs: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """min_c max over R actions of Q'_c(s', a'), actions from the noise (B, R, A) -> (B, 1)."""
    rows, samples = noise.shape[:2]
    # (B, S) -> (B*R, S)
    repeated = next_obs.repeat_interleave(samples, 0)
    action, _ = act(actor, repeated, noise.flatten(0, 1))
    # (B*R, C) -> (B, R, C) -> (B, C) -> (B, 1)
    value = values(targets, repeated, action).view(rows, samples, -1)
    return value.amax(1).amin(1, keepdim=True)


def critic_loss(
    critics: nn.ModuleList, batch: Batch, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over critics and B of (Q_c(s, a) - y)^2, and Q (B, C).

    A mean over critics too: one critic's gradient is 1/C of SAC's.
    """
    q = values(critics, batch["observations"], batch["actions"])
    assert target.shape == (len(q), 1), (q.shape, target.shape)
    return (q - target).square().mean(), q


def actor_loss(
    actor: nn.Module,
    critics: nn.ModuleList,
    obs: torch.Tensor,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_B of alpha log pi(a|s) - min_c Q_c(s, a), and log pi (B, 1); a from `noise` (B, A)."""
    action, log_prob = act(actor, obs, noise)
    q = values(critics, obs, action).amin(1, keepdim=True)
    assert q.shape == log_prob.shape, (q.shape, log_prob.shape)
    return (alpha * log_prob - q).mean(), log_prob


class MOBILEOptions(Ours, total=False):
    """What `MOBILEPolicy` takes behind `alpha`, for those that hand it through by keyword."""

    penalty_coef: float
    num_samples: int
    deterministic_backup: bool
    max_q_backup: bool
    clamp_targets: bool | None


class MOBILEPolicy(OnModel):
    """Model-Bellman inconsistency penalised policy.

    Args:
        dynamics: the learned simulator, without a penalty of its own.
        actor: observation -> `TanhNormalWrapper`.
        critics: C critics, (s, a) -> (B, 1) each.
        actor_optim: optimiser of the actor.
        critics_optim: one optimiser of all critics.
        tau: share the targets move per update.
        gamma: discount per step.
        alpha: fixed temperature, or (target entropy, log temperature, its optimiser).
        penalty_coef: beta.
        num_samples: K, successors per member.
        deterministic_backup: leave the entropy out of the targets.
        max_q_backup: back up the best of ten actions instead.
        clamp_targets: keep targets at zero or above; none means as `compat` says: `kit` does,
            `paper` does not.
        ours: see `Ours`.

    Raises:
        ValueError: unknown `compat`, or a single elite.
    """

    dynamics: EnsembleDynamics

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        actor: nn.Module,
        critics: nn.ModuleList,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        penalty_coef: float = 1.0,
        num_samples: int = 10,
        deterministic_backup: bool = False,
        max_q_backup: bool = False,
        *,
        clamp_targets: bool | None = None,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(actor, actor_optim, alpha, **ours)
        if dynamics.model.num_elites < 2:
            raise ValueError("MOBILE needs two elites or more: one alone cannot disagree")
        self.dynamics = dynamics
        self.critics, self.critics_old = critics, frozen_copy(critics).eval()
        self.critics_optim = critics_optim
        self._tau, self._gamma = tau, gamma
        self._penalty_coef, self._num_samples = penalty_coef, num_samples
        self._deterministic_backup, self._max_q_backup = deterministic_backup, max_q_backup
        self._clamp_targets = self._like_kit if clamp_targets is None else clamp_targets

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        own = self._parts("critics", "critics_old", "critics_optim")
        return super().training_state() | own

    def update(self, batch: dict[str, Batch]) -> Metrics:
        """Critics, actor, temperature, targets, on `batch["real"]` followed by `batch["fake"]`."""
        mixed = mix(batch)
        metrics = self._update_critics(mixed, len(batch["real"]["rewards"]))
        obs, noise = mixed["observations"], self._noise(mixed["actions"])
        metrics |= self._descend_actor(
            *actor_loss(self.actor, self.critics, obs, noise, self._alpha)
        )
        polyak_update(self.critics_old, self.critics, self._tau)
        return metrics

    def compute_lcb(self, obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Penalty of state-action pairs, (B, S), (B, A) -> (B, 1)."""
        next_obss = self.dynamics.sample_next_obss(obss, actions, self._num_samples)
        noise = self._noise(actions.expand(*next_obss.shape[:2], *actions.shape))
        return bellman_spread(self.actor, self.critics_old, next_obss, noise)

    def _update_critics(self, batch: Batch, n_real: int) -> Metrics:
        penalty = self._penalty(batch, n_real)
        loss, q = critic_loss(self.critics, batch, self._target(batch, penalty))
        descend(loss, self.critics, self.critics_optim)
        metrics = {"loss/critic": loss.detach(), **value_metrics(q.detach()[:, :1], n_real)}
        if n_real < len(q):
            metrics["penalty"] = penalty[n_real:].mean()
        return metrics

    def _penalty(self, batch: Batch, n_real: int) -> torch.Tensor:
        """Spread of the model's rows, zero for the first `n_real`, (B, 1)."""
        # the kit draws noise for the dataset's rows too, and drops what comes of it
        start = 0 if self._like_kit else n_real
        penalty = torch.zeros_like(batch["rewards"])
        if start < len(penalty):
            obs, action = batch["observations"][start:], batch["actions"][start:]
            penalty[start:] = self.compute_lcb(obs, action)
        penalty[:n_real].zero_()
        return penalty

    @torch.no_grad()
    def _target(self, batch: Batch, penalty: torch.Tensor) -> torch.Tensor:
        """Targets (B, 1)."""
        reward = batch["rewards"] - self._penalty_coef * penalty
        next_value = self._next_value(batch["next_observations"], batch["actions"])
        target = reward + self._gamma * (1 - batch["terminals"]) * next_value
        assert target.shape == batch["rewards"].shape, (target.shape, batch["rewards"].shape)
        return target.clamp_min(0) if self._clamp_targets else target

    def _next_value(self, next_obs: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Value of next states under the chosen backup; `like` (B, A) shapes the noise."""
        if self._max_q_backup:
            noise = self._noise(like.unsqueeze(1).expand(-1, BACKUP_SAMPLES, -1))
            return max_next_value(self.actor, self.critics_old, next_obs, noise)
        alpha = 0.0 if self._deterministic_backup else self._alpha
        return next_value(self.actor, self.critics_old, next_obs, self._noise(like), alpha)
