"""CQL: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.experiment.config import KitConfig, SoftConfig
from offlinerlkit_romi.experiment.limits import Few, Number, Positive, Rate, Weight

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class CQLConfig(SoftConfig, KitConfig):
    """CQL: conservative Q-learning. arXiv 2006.04779."""

    cql_weight: Weight = 5.0
    """Weight of the conservative term."""
    temperature: Positive = 1.0
    """Temperature of the log-sum-exp over actions."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    deterministic_backup: bool = True
    """Leave the entropy out of the backup."""
    with_lagrange: bool = False
    """Tune the conservative term's weight against --lagrange-threshold."""
    lagrange_threshold: Number = 10.0
    """Gap of values the tuned weight aims at."""
    cql_alpha_lr: Rate = 3e-4
    """Learning rate of the tuned weight."""
    num_repeat_actions: Few = 10
    """Actions drawn per state and source for the log-sum-exp."""

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        return parts.policy("CQLPolicy", **self.conservative(parts))

    def conservative(self, parts: Parts) -> dict[str, Any]:
        """What CQL and COMBO share."""
        return parts.sac() | {
            "action_space": parts.action_space,
            "cql_weight": self.cql_weight,
            "temperature": self.temperature,
            "max_q_backup": self.max_q_backup,
            "deterministic_backup": self.deterministic_backup,
            "with_lagrange": self.with_lagrange,
            "lagrange_threshold": self.lagrange_threshold,
            "cql_alpha_lr": self.cql_alpha_lr,
            "num_repeart_actions": self.num_repeat_actions,
            "compat": self.compat,
        }
