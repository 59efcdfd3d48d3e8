r"""COMBO: CQL on real and model transitions, without an uncertainty penalty.

Paper: Yu et al., "COMBO: Conservative Offline Model-Based Policy Optimization", arXiv 2102.08363,
Eq. 3: \beta (E_{s \sim \rho, a} Q - E_{s,a \sim D} Q) + 1/2 E_{d_f} (Q - BQ)^2, d_f the mixture of
data and model. As in OfflineRL-Kit \rho's actions are CQL's proposals, its states those of the
mixed batch (`rho_s="mix"`) or of the model's rows (`"model"`, the paper's). The kit's log-sum-exp
over 3 values is mended as in CQL; `compat="kit"` brings it back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours, check_choice
from offlinerlkit_romi.policy.model_based.on_model import OnModel, mix, value_metrics
from offlinerlkit_romi.policy.model_free.cql import CQLPolicy
from offlinerlkit_romi.policy.soft_policy import Alpha


class COMBOPolicy(OnModel, CQLPolicy):
    """Conservative critics on data and model rollouts.

    Takes the learned simulator, without penalty, what `CQLPolicy` takes, and

    Args:
        uniform_rollout: roll uniform actions in the model instead of the policy's.
        rho_s: states at which values are pushed down, `mix` or `model`.

    Raises:
        ValueError: unknown `rho_s` or `compat`.
    """

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        action_space: Any,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        cql_weight: float = 1.0,
        temperature: float = 1.0,
        max_q_backup: bool = False,
        deterministic_backup: bool = True,
        with_lagrange: bool = True,
        lagrange_threshold: float = 10.0,
        cql_alpha_lr: float = 1e-4,
        num_repeart_actions: int = 10,
        uniform_rollout: bool = False,
        rho_s: str = "mix",
        **ours: Unpack[Ours],
    ) -> None:
        check_choice("rho_s", rho_s, ("mix", "model"))
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        loss, backup = (cql_weight, temperature), (max_q_backup, deterministic_backup)
        lagrange = with_lagrange, lagrange_threshold, cql_alpha_lr
        cql = (action_space, tau, gamma, alpha, *loss, *backup, *lagrange, num_repeart_actions)
        super().__init__(*nets, *optims, *cql, **ours)  # type: ignore[arg-type]  # mypy miscounts
        self.dynamics = dynamics
        self._uniform_rollout, self._rho_s = uniform_rollout, rho_s

    def act_in_model(self, obs: torch.Tensor) -> torch.Tensor:
        """Actions of a rollout, the policy's or uniform ones, (n, S) -> (n, A)."""
        if not self._uniform_rollout:
            return self.choose_action(obs)
        return self._uniform_actions((len(obs), self.action_space.shape[0]), obs)

    def update(self, batch: dict[str, Batch]) -> Metrics:  # type: ignore[override]
        """One update on the rows of `batch["real"]` followed by those of `batch["fake"]`."""
        real, mixed = batch["real"], mix(batch)
        push_down = mixed if self._rho_s == "mix" else batch["fake"]
        metrics, q = self._conservative_update(mixed, push_down, real)
        return metrics | value_metrics(q, len(real["rewards"]))
