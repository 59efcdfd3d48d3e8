"""Actors, critics, the dynamics ensemble and the weighting network, under the kit's names."""

from offlinerlkit_romi.modules.actor_critic import Actor, ActorProb, Critic, EnsembleCritic
from offlinerlkit_romi.modules.distributions import (
    DiagGaussian,
    NormalWrapper,
    TanhDiagGaussian,
    TanhNormalWrapper,
)
from offlinerlkit_romi.modules.dynamics_module import EnsembleDynamicsModel, Swish, soft_clamp
from offlinerlkit_romi.modules.hash_coder import HashCoder
from offlinerlkit_romi.modules.twins import Twins, lay_side_by_side, twin_values
from offlinerlkit_romi.modules.weighting_net import WeightingNet

__all__ = [
    "Actor",
    "ActorProb",
    "Critic",
    "DiagGaussian",
    "EnsembleCritic",
    "EnsembleDynamicsModel",
    "HashCoder",
    "NormalWrapper",
    "Swish",
    "TanhDiagGaussian",
    "TanhNormalWrapper",
    "Twins",
    "WeightingNet",
    "lay_side_by_side",
    "soft_clamp",
    "twin_values",
]
