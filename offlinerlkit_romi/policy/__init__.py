"""Every algorithm's policy, under the kit's names."""

from offlinerlkit_romi.policy.base_policy import BasePolicy
from offlinerlkit_romi.policy.model_based.combo import COMBOPolicy
from offlinerlkit_romi.policy.model_based.leader_follower import Game
from offlinerlkit_romi.policy.model_based.mobile import MOBILEPolicy
from offlinerlkit_romi.policy.model_based.mopo import MOPOPolicy
from offlinerlkit_romi.policy.model_based.rambo import RAMBOPolicy
from offlinerlkit_romi.policy.model_based.rombrl import ROMBRLPolicy
from offlinerlkit_romi.policy.model_based.romi import ROMIPolicy
from offlinerlkit_romi.policy.model_free.bc import BCPolicy
from offlinerlkit_romi.policy.model_free.cql import CQLPolicy
from offlinerlkit_romi.policy.model_free.edac import EDACPolicy
from offlinerlkit_romi.policy.model_free.iql import IQLPolicy
from offlinerlkit_romi.policy.model_free.mcq import MCQPolicy
from offlinerlkit_romi.policy.model_free.rorl import RORLPolicy
from offlinerlkit_romi.policy.model_free.sac import SACPolicy
from offlinerlkit_romi.policy.model_free.td3 import TD3Policy
from offlinerlkit_romi.policy.model_free.td3bc import TD3BCPolicy

__all__ = [
    "BCPolicy",
    "BasePolicy",
    "COMBOPolicy",
    "CQLPolicy",
    "EDACPolicy",
    "Game",
    "IQLPolicy",
    "MCQPolicy",
    "MOBILEPolicy",
    "MOPOPolicy",
    "RAMBOPolicy",
    "ROMBRLPolicy",
    "ROMIPolicy",
    "RORLPolicy",
    "SACPolicy",
    "TD3BCPolicy",
    "TD3Policy",
]
