"""Count-MORL: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.limits import Between, Rate, Weight
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class CountMORLConfig(ModelBasedConfig):
    """Count-MORL: a penalty from pseudo-counts of hashed transitions. arXiv 2307.11352."""

    penalty_coef: Weight = 1.0
    """Weight of the penalty 1 / sqrt(count)."""
    count_mode: Literal["UC", "AVG", "LC"] = "UC"
    """Which end of the members' counts is used: upper, mean or lower."""
    count_coef: Weight = 0.5
    """Standard deviations between the mean and that end."""
    num_bits: Annotated[int, Between(1, 62)] = 50
    """Bits of the transitions' hash code."""
    coder_lr: Rate = 1e-3
    """Learning rate of the auto-encoder whose code is the hash."""
    decoder_out: Literal["linear", "swish"] = "linear"
    """Decoder's last layer; swish is the released code's, which cannot reach its targets."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if self.dynamics != "learned":
            raise UserError(
                f"--dynamics {self.dynamics}: Count-MORL's hash looks into its own; leave it out"
            )
        if len(self.dynamics_hidden_dims) < 2:
            raise UserError(
                f"--dynamics-hidden-dims is {self.dynamics_hidden_dims}: give two widths or more, "
                "the second is the coder's"
            )

    @property
    def penalised(self) -> float:
        """Weight of the penalty on rewards, which lowers values."""
        return self.penalty_coef

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        coder = parts.hash_coder()
        dynamics = parts.dynamics(
            "CountEnsembleDynamics",
            penalty_coef=self.penalty_coef,
            count_mode=self.count_mode,
            count_coef=self.count_coef,
            coder=coder,
            coder_optim=parts.adam(coder, self.coder_lr),
        )
        return parts.policy("MOPOPolicy", dynamics, **parts.sac())
