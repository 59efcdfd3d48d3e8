"""COMBO: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms.cql import CQLConfig
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class COMBOConfig(ModelBasedConfig, CQLConfig):
    """COMBO: conservative offline model-based policy optimisation. arXiv 2102.08363."""

    uniform_rollout: bool = False
    """Roll out uniform actions instead of the policy's."""
    rho_s: Literal["mix", "model"] = "mix"
    """States whose values are pushed down: of the mixed batch, or of the model's rows alone."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        real = self.real_rows
        if not real or (self.rho_s == "model" and real == self.batch_size):
            raise UserError(
                f"--real-ratio is {self.real_ratio}: it leaves {real} of {self.batch_size} rows to "
                "the data, and COMBO needs some of the data's (for --rho-s model, the model's too)"
            )

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        return parts.policy(
            "COMBOPolicy",
            parts.dynamics(),
            uniform_rollout=self.uniform_rollout,
            rho_s=self.rho_s,
            **self.conservative(parts),
        )
