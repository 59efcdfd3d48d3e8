"""Training loops under the kit's names."""

from offlinerlkit_romi.policy_trainer.async_scoring import SnapshotScorer
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.events import Event
from offlinerlkit_romi.policy_trainer.interrupts import Follower, Interrupts
from offlinerlkit_romi.policy_trainer.loop import PolicyTrainer
from offlinerlkit_romi.policy_trainer.mb_policy_trainer import MBPolicyTrainer
from offlinerlkit_romi.policy_trainer.mf_policy_trainer import MFPolicyTrainer
from offlinerlkit_romi.policy_trainer.scoring import Scorer, Scores
from offlinerlkit_romi.policy_trainer.sentinel import Sentinel, largest_value

__all__ = [
    "Checkpoints",
    "Event",
    "Follower",
    "Interrupts",
    "MBPolicyTrainer",
    "MFPolicyTrainer",
    "PolicyTrainer",
    "Scorer",
    "Scores",
    "Sentinel",
    "SnapshotScorer",
    "largest_value",
]
