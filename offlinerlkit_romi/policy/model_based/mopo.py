"""MOPO: SAC on real and penalised model transitions.

Paper: Yu et al., "MOPO: Model-based Offline Policy Optimization", arXiv 2005.13239. The penalty
lives in the dynamics (`EnsembleDynamics(penalty_coef=...)`); this class adds rollouts and the mixed
batch, as in OfflineRL-Kit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.dynamics import BaseDynamics
from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.policy.base_policy import Batch, Compat, Metrics
from offlinerlkit_romi.policy.model_based.rollout import Rollout, mix, rollout, value_metrics
from offlinerlkit_romi.policy.model_free.sac import Alpha, SACPolicy


class MOPOPolicy(SACPolicy):
    """SAC whose batches mix dataset and model transitions.

    Args:
        dynamics: the learned simulator.
        actor: see `SACPolicy`, as all that follow.
        critic1: first critic.
        critic2: second critic.
        actor_optim: optimiser of the actor.
        critic1_optim: optimiser of the first critic.
        critic2_optim: optimiser of the second critic.
        tau: share the targets move per update.
        gamma: discount per step.
        alpha: temperature.
        generator: source of actions' and the update's noise.
        compat: `paper` or `kit`; MOPO computes the same under both.
    """

    def __init__(
        self,
        dynamics: BaseDynamics,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        *,
        generator: torch.Generator | None = None,
        compat: Compat = "paper",
    ) -> None:
        super().__init__(
            actor,
            critic1,
            critic2,
            actor_optim,
            critic1_optim,
            critic2_optim,
            tau,
            gamma,
            alpha,
            generator=generator,
            compat=compat,
        )
        self.dynamics = dynamics

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | self.dynamics.training_state()

    def rollout(self, init_obss: ArrayLike, rollout_length: int) -> Rollout:
        """Roll the stochastic policy in the model; a row stops at its predicted terminal.

        Args:
            init_obss: start states (n, S).
            rollout_length: H.

        Returns:
            Transitions `obss, next_obss, actions, rewards, terminals`, at most n*H rows each, and
            `num_transitions`,
            `reward_mean`.
        """
        obs = as_input(init_obss, self.actor)
        return rollout(self.dynamics, self.act_in_model, obs, rollout_length)

    def act_in_model(self, obs: torch.Tensor) -> torch.Tensor:
        """Actions of a rollout, (n, S) -> (n, A)."""
        return self.choose_action(obs)

    def update(self, batch: dict[str, Batch]) -> Metrics:  # type: ignore[override]
        """One SAC update on the rows of `batch["real"]` followed by those of `batch["fake"]`."""
        metrics, q = self._update(mix(batch))
        return metrics | value_metrics(q, len(batch["real"]["rewards"]))
