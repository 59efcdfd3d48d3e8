"""ROMI on an installed OfflineRL-Kit: its own RAMBO and ensemble with ROMI's model update.

For who stays with the kit (https://github.com/yihaosun1124/OfflineRL-Kit): a script that trains
RAMBO there trains ROMI inside the kit's own trainer and logger when it takes `ROMIPolicy` and
`EnsembleDynamics` from here and adds the weighting network; docs/migration.md shows the
difference. Nothing else in this package imports this module, or the kit.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.dynamics.weighted_dynamics import WeightedPasses
from offlinerlkit_romi.engine import MetricMeans
from offlinerlkit_romi.modules import WeightingNet
from offlinerlkit_romi.policy.model_based.romi_update import ROMIUpdate
from offlinerlkit_romi.policy.model_free.sac import Alpha

try:
    from offlinerlkit.dynamics import EnsembleDynamics as KitEnsembleDynamics
    from offlinerlkit.policy import RAMBOPolicy as KitRAMBOPolicy
except ImportError as error:
    raise ImportError(
        f"offlinerlkit_romi.upstream builds on OfflineRL-Kit, which does not import ({error}): "
        "clone https://github.com/yihaosun1124/OfflineRL-Kit and install it with its gym, or use "
        "offlinerlkit_romi.policy.ROMIPolicy, which needs neither",
        name=error.name,
    ) from error

__all__ = ["EnsembleDynamics", "ROMIPolicy", "WeightingNet"]


class EnsembleDynamics(KitEnsembleDynamics, WeightedPasses):
    """The kit's `EnsembleDynamics`, its arguments, and the weighted passes ROMI asks for."""

    generator: torch.Generator | None = None  # the kit draws from torch's global one

    def inputs(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Scaled model input, (B, S), (B, A) -> (B, S+A), without the kit's way through numpy."""
        raw = torch.cat([obs, action], dim=-1)
        mu, std = (torch.as_tensor(x).to(raw) for x in (self.scaler.mu, self.scaler.std))
        return (raw - mu) / std


class ROMIPolicy(ROMIUpdate, KitRAMBOPolicy):
    """The kit's `RAMBOPolicy` whose model update is ROMI's.

    The arguments are those of `offlinerlkit_romi.policy.ROMIPolicy`: RAMBO's, `weighting_net`
    after the critics, `weighting_optim` after the model's optimiser, and ROMI's own at the end.

    Raises:
        ValueError: an unknown variant, set or preconditioner, or `dynamics` is not this module's.
    """

    generator: torch.Generator | None = None
    _adv_train_steps: int

    def __init__(
        self,
        dynamics: EnsembleDynamics,
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
        scaler: Any = None,
        device: str | torch.device = "cpu",
        xi: float = 0.01,
        *,
        num_perturbations: int = 10,
        variant: str = "exact",
        uncertainty_set: str = "relative",
        preconditioner: str = "adam",
        reward_likelihood: bool = True,
    ) -> None:
        if not isinstance(dynamics, WeightedPasses):
            raise ValueError(
                f"ROMIPolicy needs offlinerlkit_romi.upstream.EnsembleDynamics, not "
                f"{type(dynamics).__module__}.{type(dynamics).__name__}: change that import too"
            )
        super().__init__(
            dynamics,
            actor,
            critic1,
            critic2,
            actor_optim,
            critic1_optim,
            critic2_optim,
            dynamics_adv_optim,
            tau=tau,
            gamma=gamma,
            alpha=alpha,
            adv_weight=adv_weight,
            adv_train_steps=adv_train_steps,
            adv_rollout_batch_size=adv_rollout_batch_size,
            adv_rollout_length=adv_rollout_length,
            include_ent_in_adv=include_ent_in_adv,
            scaler=scaler,
            device=device,
        )
        self._dynamics_adv_optim = dynamics_adv_optim
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

    def update_dynamics(self, real_buffer: Any) -> dict[str, float]:
        """K of ROMI's model updates; returns their mean metrics, under `romi/`."""
        means = MetricMeans()
        for metrics in islice(self.model_updates(real_buffer), self._adv_train_steps):
            means.add(metrics)
        return means.result()
