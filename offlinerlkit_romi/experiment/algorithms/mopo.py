"""MOPO: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import KitConfig
from offlinerlkit_romi.experiment.limits import Weight, own_or
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class MOPOConfig(ModelBasedConfig, KitConfig):
    """MOPO: model-based policy optimisation with a penalty on model uncertainty."""

    penalty_coef: Weight = 2.5
    """Weight of the uncertainty penalty on the model's rewards."""
    uncertainty_mode: Literal["aleatoric", "pairwise-diff", "ensemble_std"] = "aleatoric"
    """What measures uncertainty: predicted spread, disagreement of means, or their deviation."""
    dynamics: Annotated[str, own_or("learned", "oracle")] = "learned"
    """learned, an ensemble of your own to fit (module:function of (S, A)), or oracle: a diagnostic
    with the true simulator in the model's place and no penalty; what fails there is not the model's
    fault. HalfCheetah, Hopper and Walker2d, on the CPU."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if self.dynamics == "oracle" and self.estimates in ("model", "both"):
            raise UserError(f"--estimates {self.estimates}: --dynamics oracle has no model to ask")

    @property
    def penalised(self) -> float:
        """Weight of the penalty on rewards, which lowers values."""
        return self.penalty_coef

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        if self.dynamics == "oracle":
            dynamics = parts.oracle()
        else:
            dynamics = parts.dynamics(
                penalty_coef=self.penalty_coef, uncertainty_mode=self.uncertainty_mode
            )
        return parts.policy("MOPOPolicy", dynamics, **parts.sac(), compat=self.compat)
