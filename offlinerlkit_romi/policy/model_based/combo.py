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

from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.policy.base_policy import Batch, Compat, Metrics
from offlinerlkit_romi.policy.model_based.rollout import Rollout, mix, rollout, value_metrics
from offlinerlkit_romi.policy.model_free.cql import CQLPolicy
from offlinerlkit_romi.policy.soft_policy import Alpha

RHO_S = ("mix", "model")


class COMBOPolicy(CQLPolicy):
    """Conservative critics on data and model rollouts.

    Args:
        dynamics: the learned simulator, without penalty.
        actor: see `CQLPolicy`, as all that follow up to `num_repeart_actions`.
        critic1: first critic.
        critic2: second critic.
        actor_optim: optimiser of the actor.
        critic1_optim: optimiser of the first critic.
        critic2_optim: optimiser of the second critic.
        action_space: box of the actions.
        tau: share the targets move per update.
        gamma: discount per step.
        alpha: temperature.
        cql_weight: factor of the conservative loss, beta.
        temperature: of the log-sum-exp.
        max_q_backup: back up the largest of R actions' values.
        deterministic_backup: leave the entropy out of the target.
        with_lagrange: tune the conservative loss's multiplier.
        lagrange_threshold: what it aims at.
        cql_alpha_lr: rate of the log multiplier.
        num_repeart_actions: R (the kit's spelling).
        uniform_rollout: roll uniform actions in the model instead of the policy's.
        rho_s: states at which values are pushed down, `mix` or `model`.
        generator: source of actions' and the update's noise.
        compat: `paper` or `kit`, see `CQLPolicy`.

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
            action_space,
            tau,
            gamma,
            alpha,
            cql_weight,
            temperature,
            max_q_backup,
            deterministic_backup,
            with_lagrange,
            lagrange_threshold,
            cql_alpha_lr,
            num_repeart_actions,
            generator=generator,
            compat=compat,
        )
        if rho_s not in RHO_S:
            raise ValueError(f"rho_s is one of {', '.join(RHO_S)}: {rho_s!r}")
        self.dynamics = dynamics
        self._uniform_rollout, self._rho_s = uniform_rollout, rho_s

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | self.dynamics.training_state()

    def rollout(self, init_obss: ArrayLike, rollout_length: int) -> Rollout:
        """Roll the policy, or uniform actions, in the model.

        Args:
            init_obss: start states (n, S).
            rollout_length: H.

        Returns:
            Transitions and their count and mean reward, see `rollout.rollout`.
        """
        obs = as_input(init_obss, self.actor)
        return rollout(self.dynamics, self.act_in_model, obs, rollout_length)

    def act_in_model(self, obs: torch.Tensor) -> torch.Tensor:
        """Actions of a rollout, (n, S) -> (n, A)."""
        return self._uniform_actions(obs) if self._uniform_rollout else self.choose_action(obs)

    def update(self, batch: dict[str, Batch]) -> Metrics:  # type: ignore[override]
        """One update on the rows of `batch["real"]` followed by those of `batch["fake"]`."""
        real, mixed = batch["real"], mix(batch)
        push_down = mixed if self._rho_s == "mix" else batch["fake"]
        metrics, q = self._conservative_update(mixed, push_down, real)
        return metrics | value_metrics(q, len(real["rewards"]))

    def _uniform_actions(self, obs: torch.Tensor) -> torch.Tensor:
        """(n, S) -> (n, A), uniform in the box."""
        shape = (len(obs), self.action_space.shape[0])
        draw = torch.rand(shape, dtype=obs.dtype, device=obs.device, generator=self.generator)
        return self._low + (self._high - self._low) * draw
