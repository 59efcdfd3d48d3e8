r"""EDAC: SAC with many critics whose gradients in the action are pushed apart.

Paper: An et al., "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble",
arXiv 2110.01548. The ensemble's minimum is the value; \eta ES is added to its loss, with
ES = E 1/(N-1) \sum_{n \ne m} <g_n, g_m>, g_n the unit vector along \nabla_a Q_n(s,a) (Eq. 4).
\eta = 0 is SAC-N. The numbers are OfflineRL-Kit's, which tests/upstream shows; one pass of the
critics serves both terms, and the sum over pairs, |\sum_n g_n|^2 - \sum_n |g_n|^2, is linear in N.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import descend, frozen_copy, polyak_update
from offlinerlkit_romi.modules import EnsembleCritic
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_free.sac import backup
from offlinerlkit_romi.policy.soft_policy import Alpha, SoftPolicy, act

BACKUP_ACTIONS = 10  # per next state under max_q_backup (kit behaviour)
EPS = 1e-10  # keeps a vanishing gradient's direction finite


def actor_loss(
    actor: nn.Module,
    critics: nn.Module,
    obs: torch.Tensor,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_B of alpha log pi(a|s) - min_n Q_n(s, a), and log pi (B, 1); a from `noise` (B, A)."""
    action, log_prob = act(actor, obs, noise)
    q = critics(obs, action).amin(0)
    assert q.shape == log_prob.shape, (q.shape, log_prob.shape)
    return (alpha * log_prob - q).mean(), log_prob


@torch.no_grad()
def critic_target(
    actor: nn.Module,
    targets: nn.Module,
    batch: Batch,
    noise: torch.Tensor,
    alpha: float | torch.Tensor,
    gamma: float,
) -> torch.Tensor:
    """Target r + gamma (1 - done) (min_n Q'_n(s', a') - alpha log pi(a'|s')), (B, 1).

    Args:
        actor: gives a'.
        targets: the slow ensemble.
        batch: B transitions.
        noise: (B, A), or (R, B, A) for the largest of R actions' values per member, without
            entropy.
        alpha: temperature; 0 leaves the entropy out.
        gamma: discount per step.
    """
    next_obs = batch["next_observations"]
    action, log_prob = act(actor, next_obs, noise)
    if noise.dim() == 2:
        next_q = targets(next_obs, action).amin(0) - alpha * log_prob
    else:
        # (R, B, ·) -> (R*B, ·) -> (N, R*B, 1) -> (N, R, B, 1)
        tiled = next_obs.expand(len(noise), -1, -1).flatten(0, 1)
        q = targets(tiled, action.flatten(0, 1)).unflatten(1, noise.shape[:2])
        next_q = q.amax(1).amin(0)
    return backup(batch, next_q, gamma)


def bellman_loss(qs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum over members of mean_B (Q_n - y)^2, (N, B, 1), (B, 1)."""
    assert qs.shape[1:] == target.shape, (qs.shape, target.shape)
    return (qs - target).square().mean((1, 2)).sum()


def diversity_loss(qs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """ES: mean_B of the members' pairwise cosines of grad_a Q_n, summed, over N - 1 (Eq. 4).

    Args:
        qs: Q_n(s, a), (N, B, 1), with graph to `actions`.
        actions: the data's actions, one copy per member, (N, B, A).
    """
    (grads,) = torch.autograd.grad(qs.sum(), actions, create_graph=True)
    units = grads / (grads.norm(dim=-1, keepdim=True) + EPS)
    # sum over pairs n != m of <g_n, g_m>: all pairs less the diagonal, (N, B, A) -> (B,)
    pairs = units.sum(0).square().sum(-1) - units.square().sum((0, 2))
    return pairs.mean() / (len(units) - 1)


class EDACPolicy(SoftPolicy):
    """SAC on the minimum of N diversified critics.

    Args:
        actor: observation -> `TanhNormalWrapper`.
        critics: `EnsembleCritic` of N members.
        actor_optim: optimiser of the actor.
        critics_optim: optimiser of the ensemble.
        tau: share the slow critics move per update.
        gamma: discount per step.
        alpha: fixed temperature, or (target entropy, log temperature, its optimiser).
        max_q_backup: back up each member's largest value of 10 actions, without entropy.
        deterministic_backup: leave the entropy out of the target.
        eta: factor of the diversity loss; 0 leaves SAC-N.
        ours: see `Ours`; EDAC computes the same under both `compat`s.

    Raises:
        ValueError: unknown `compat`, or diversity asked of a single critic.
    """

    def __init__(
        self,
        actor: nn.Module,
        critics: EnsembleCritic,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        max_q_backup: bool = False,
        deterministic_backup: bool = True,
        eta: float = 1.0,
        **ours: Unpack[Ours],
    ) -> None:
        super().__init__(actor, actor_optim, alpha, **ours)
        self._num_critics = critics._num_ensemble
        if eta > 0 and self._num_critics < 2:
            raise ValueError("eta > 0 needs two critics or more: a single one has no pairs")
        self.critics, self.critics_old = critics, frozen_copy(critics)
        self.critics_optim = critics_optim
        self._tau, self._gamma, self._eta = tau, gamma, eta
        self._max_q_backup, self._deterministic_backup = max_q_backup, deterministic_backup

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        own = self._parts("critics", "critics_old", "critics_optim")
        return super().training_state() | own

    def update(self, batch: Batch) -> Metrics:
        """Actor, temperature, critics, slow critics, in this order."""
        loss, log_prob, metrics = self._actor_loss(batch)
        metrics |= self._descend_actor(loss, log_prob)
        return metrics | self._descend_critics(*self._critics_loss(batch))

    def _actor_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """The actor's loss, log pi (B, 1) and what there is to report."""
        obs, noise = batch["observations"], self._noise(batch["actions"])
        return *actor_loss(self.actor, self.critics, obs, noise, self._alpha), {}

    def _critics_loss(self, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        target = self._target(batch)
        # (B, ·) -> (N, B, ·): a copy of the actions per member, to differentiate each by its own
        tile = (self._num_critics, -1, -1)
        actions = batch["actions"].expand(tile).detach().requires_grad_(self._eta > 0)
        qs = self.critics(batch["observations"].expand(tile), actions)
        metrics = {
            "q/real": qs.detach().amin(0).mean(),
            "q/spread": qs.detach().std(0, unbiased=False).mean(),
        }
        loss, more = self._regularise(bellman_loss(qs, target), batch, qs, actions)
        return loss, metrics | more

    def _regularise(
        self, loss: torch.Tensor, batch: Batch, qs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """The critics' loss with what is added to their Bellman losses; `actions` gave `qs`."""
        if self._eta <= 0:
            return loss, {}
        diversity = diversity_loss(qs, actions)
        return loss + self._eta * diversity, {"diversity": diversity.detach()}

    def _descend_critics(self, loss: torch.Tensor, metrics: Metrics) -> Metrics:
        """One step of the critics, then their slow copies'."""
        descend(loss, self.critics, self.critics_optim)
        polyak_update(self.critics_old, self.critics, self._tau)
        return metrics | {"loss/critics": loss.detach()}

    def _target(self, batch: Batch) -> torch.Tensor:
        if self._max_q_backup:
            noise = self._repeated_noise(batch["actions"], BACKUP_ACTIONS)
        else:
            noise = self._noise(batch["actions"])
        alpha = 0.0 if self._deterministic_backup else self._alpha
        return critic_target(self.actor, self.critics_old, batch, noise, alpha, self._gamma)
