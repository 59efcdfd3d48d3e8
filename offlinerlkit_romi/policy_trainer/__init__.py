"""Training loops under the kit's names."""

from offlinerlkit_romi.policy_trainer.callbacks import (
    Callback,
    EachEpoch,
    EarlyStopping,
    KeepBest,
    KeepCheckpoints,
    OnEpoch,
    RunInfo,
)
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.evaluation import Scorer, Scores
from offlinerlkit_romi.policy_trainer.interrupts import Follower, Interrupts
from offlinerlkit_romi.policy_trainer.loop import PolicyTrainer, TrainerOptions
from offlinerlkit_romi.policy_trainer.mb_policy_trainer import MBPolicyTrainer
from offlinerlkit_romi.policy_trainer.mf_policy_trainer import MFPolicyTrainer
from offlinerlkit_romi.policy_trainer.sentinel import Sentinel, largest_value
from offlinerlkit_romi.policy_trainer.snapshots import SnapshotScorer
from offlinerlkit_romi.policy_trainer.updates import Event

__all__ = [
    "Callback",
    "Checkpoints",
    "EachEpoch",
    "EarlyStopping",
    "Event",
    "Follower",
    "Interrupts",
    "KeepBest",
    "KeepCheckpoints",
    "MBPolicyTrainer",
    "MFPolicyTrainer",
    "OnEpoch",
    "PolicyTrainer",
    "RunInfo",
    "Scorer",
    "Scores",
    "Sentinel",
    "SnapshotScorer",
    "TrainerOptions",
    "largest_value",
]
