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

from offlinerlkit_romi.dynamics.weighted_dynamics import WeightedPasses
from offlinerlkit_romi.engine import MetricMeans
from offlinerlkit_romi.modules import WeightingNet
from offlinerlkit_romi.policy.model_based.romi import ROMIUpdate

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
    """The kit's `RAMBOPolicy` whose model update is ROMI's; takes what `ROMIUpdate` says.

    Only `generator` and `compat` are not for the kit.
    """

    needs = "offlinerlkit_romi.upstream.EnsembleDynamics"
    generator: torch.Generator | None = None
    _adv_train_steps: int

    def update_dynamics(self, real_buffer: Any) -> dict[str, float]:
        """K of ROMI's model updates; returns their mean metrics, under `romi/`."""
        means = MetricMeans()
        for metrics in islice(self.model_updates(real_buffer), self._adv_train_steps):
            means.add(metrics)
        return means.result()
