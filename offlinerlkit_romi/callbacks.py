"""Door: `from offlinerlkit_romi.callbacks import Callback`, and the ready ones."""

from offlinerlkit_romi.errors import StopTraining
from offlinerlkit_romi.policy_trainer.callbacks import (
    Callback,
    EarlyStopping,
    KeepBest,
    KeepCheckpoints,
    RunInfo,
)

__all__ = ["Callback", "EarlyStopping", "KeepBest", "KeepCheckpoints", "RunInfo", "StopTraining"]
