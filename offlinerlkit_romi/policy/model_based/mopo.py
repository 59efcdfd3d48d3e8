"""MOPO: SAC on real and penalised model transitions.

Paper: Yu et al., "MOPO: Model-based Offline Policy Optimization", arXiv 2005.13239. The penalty
lives in the dynamics (`EnsembleDynamics(penalty_coef=...)`); this class adds rollouts and the mixed
batch, as in OfflineRL-Kit.
"""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.dynamics import BaseDynamics
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_based.on_model import OnModel, mix, value_metrics
from offlinerlkit_romi.policy.model_free.sac import SACPolicy
from offlinerlkit_romi.policy.soft_policy import Alpha


class MOPOPolicy(OnModel, SACPolicy):
    """SAC whose batches mix dataset and model transitions; it computes the same in the kit.

    Takes the learned simulator and what `SACPolicy` takes.
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
        **ours: Unpack[Ours],
    ) -> None:
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        super().__init__(*nets, *optims, tau, gamma, alpha, **ours)
        self.dynamics = dynamics

    def update(self, batch: dict[str, Batch]) -> Metrics:  # type: ignore[override]
        """One SAC update on the rows of `batch["real"]` followed by those of `batch["fake"]`."""
        metrics, q = self._update(mix(batch))
        return metrics | value_metrics(q, len(batch["real"]["rewards"]))
