"""ROMI's policy: RAMBO's, with the model update of `romi_update`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.dynamics.weighted_dynamics import WeightedEnsembleDynamics
from offlinerlkit_romi.modules import WeightingNet
from offlinerlkit_romi.policy.model_based.rambo import RAMBOPolicy
from offlinerlkit_romi.policy.model_based.romi_update import (
    ROMIUpdate,
    perturb,
    robust_target,
    robust_value_rows,
)
from offlinerlkit_romi.policy.model_free.sac import Alpha
from offlinerlkit_romi.utils.scaler import StandardScaler

__all__ = ["ROMIPolicy", "ROMIUpdate", "perturb", "robust_target", "robust_value_rows"]


class ROMIPolicy(ROMIUpdate, RAMBOPolicy):
    """RAMBO whose model update is ROMI's bilevel one.

    Args:
        dynamics: the learned simulator.
        actor: see `SACPolicy`.
        critic1: first critic.
        critic2: second critic.
        weighting_net: (s, a, s') -> w.
        actor_optim: optimiser of the actor.
        critic1_optim: optimiser of the first critic.
        critic2_optim: optimiser of the second critic.
        dynamics_adv_optim: inner optimiser: Adam, or SGD without momentum.
        weighting_optim: outer optimiser, of the weighting network.
        tau: share the targets move per update.
        gamma: discount per step.
        alpha: temperature.
        adv_weight: RAMBO's; not used.
        adv_train_steps: model updates per call of `update_dynamics`, K.
        adv_rollout_batch_size: rows per model update, B.
        adv_rollout_length: RAMBO's; not used.
        include_ent_in_adv: RAMBO's; not used.
        scaler: standardises observations in `select_action`.
        device: kept for the kit's signature.
        xi: scale of the uncertainty set.
        num_perturbations: draws from the set, N.
        variant: `exact`, `release` or `no_weighting`.
        uncertainty_set: `relative` or `ball`.
        preconditioner: `adam` (exact for an Adam inner step) or `identity` (the paper's
            derivation).
        reward_likelihood: in `no_weighting`, train a predicted reward on its own likelihood:
            nothing else there does.
        generator: source of noise.

    Raises:
        ValueError: unknown variant, set or preconditioner, or rows that `release` cannot group.
    """

    dynamics: WeightedEnsembleDynamics

    def __init__(
        self,
        dynamics: WeightedEnsembleDynamics,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        weighting_net: WeightingNet,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        dynamics_adv_optim: torch.optim.Optimizer,
        weighting_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        adv_weight: float = 0.0,
        adv_train_steps: int = 1000,
        adv_rollout_batch_size: int = 256,
        adv_rollout_length: int = 5,
        include_ent_in_adv: bool = False,
        scaler: StandardScaler | None = None,
        device: str | torch.device = "cpu",
        xi: float = 0.01,
        *,
        num_perturbations: int = 10,
        variant: str = "exact",
        uncertainty_set: str = "relative",
        preconditioner: str = "adam",
        reward_likelihood: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            dynamics,
            actor,
            critic1,
            critic2,
            actor_optim,
            critic1_optim,
            critic2_optim,
            dynamics_adv_optim,
            tau,
            gamma,
            alpha,
            adv_weight,
            adv_train_steps,
            adv_rollout_batch_size,
            adv_rollout_length,
            include_ent_in_adv,
            scaler,
            device,
            generator=generator,
        )
        self._set_up(
            weighting_net,
            weighting_optim,
            xi,
            num_perturbations,
            variant,
            uncertainty_set,
            preconditioner,
            reward_likelihood,
        )

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | {
            "weighting_net": self.weighting_net,
            "weighting_optim": self._weighting_optim,
            "baseline": self._baseline,
        }
