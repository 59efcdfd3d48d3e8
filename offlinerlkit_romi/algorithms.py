"""Door: what an algorithm of one's own is made of (docs/adding_an_algorithm.md).

A configuration is a frozen dataclass of one of the kinds here; a field's type may hold its rules,
the string under it is its help. Its `build(parts)` makes the policy from what `Parts` offers.
Reading this module imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.experiment.algorithms import register_algorithm
from offlinerlkit_romi.experiment.algorithms.bc import BCConfig
from offlinerlkit_romi.experiment.algorithms.cql import CQLConfig
from offlinerlkit_romi.experiment.algorithms.iql import IQLConfig
from offlinerlkit_romi.experiment.algorithms.mopo import MOPOConfig
from offlinerlkit_romi.experiment.algorithms.rambo import RAMBOConfig
from offlinerlkit_romi.experiment.algorithms.romi import ROMIConfig
from offlinerlkit_romi.experiment.algorithms.td3bc import TD3BCConfig
from offlinerlkit_romi.experiment.config import (
    CriticConfig,
    Recurring,
    RunConfig,
    SoftConfig,
    TwinConfig,
)
from offlinerlkit_romi.experiment.limits import (
    Between,
    Count,
    Number,
    Part,
    Positive,
    Rate,
    Share,
    Weight,
    Whole,
    Widths,
)
from offlinerlkit_romi.experiment.model_config import (
    AdaptiveConfig,
    AdversarialConfig,
    ModelBasedConfig,
)

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts

__all__ = [
    "AdaptiveConfig",
    "AdversarialConfig",
    "BCConfig",
    "Between",
    "CQLConfig",
    "Count",
    "CriticConfig",
    "IQLConfig",
    "MOPOConfig",
    "ModelBasedConfig",
    "Number",
    "Part",
    "Parts",
    "Positive",
    "RAMBOConfig",
    "ROMIConfig",
    "Rate",
    "Recurring",
    "RunConfig",
    "Share",
    "SoftConfig",
    "TD3BCConfig",
    "TwinConfig",
    "Weight",
    "Whole",
    "Widths",
    "register_algorithm",
]


def __getattr__(name: str) -> Any:
    if name == "Parts":  # brings torch
        from offlinerlkit_romi.experiment.build import Parts

        return Parts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
