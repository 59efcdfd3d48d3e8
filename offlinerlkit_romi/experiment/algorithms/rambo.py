"""RAMBO: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from offlinerlkit_romi.experiment.config import KitConfig
from offlinerlkit_romi.experiment.limits import Weight
from offlinerlkit_romi.experiment.model_config import AdversarialConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class RAMBOConfig(AdversarialConfig, KitConfig):
    """RAMBO: robust adversarial model-based offline RL."""

    adv_weight: Weight = 3e-4
    """Weight of the adversarial loss against the model's likelihood; 0 switches it off."""
    adv_reduction: Literal["mean", "sum"] = "mean"
    """How the adversarial loss is reduced over the batch."""
    include_ent_in_adv: bool = False
    """Add the policy's entropy to the value that the model update looks at."""

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        dynamics = parts.dynamics()
        return parts.policy(
            "RAMBOPolicy",
            dynamics,
            dynamics_adv_optim=parts.adam(dynamics.model, self.dynamics_adv_lr),
            adv_weight=self.adv_weight,
            adv_reduction=self.adv_reduction,
            include_ent_in_adv=self.include_ent_in_adv,
            compat=self.compat,
            **parts.sac(),
            **parts.adversary(),
        )
