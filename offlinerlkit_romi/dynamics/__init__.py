"""Learned simulators."""

from offlinerlkit_romi.dynamics.count_dynamics import CountEnsembleDynamics
from offlinerlkit_romi.dynamics.ensemble_dynamics import BaseDynamics, EnsembleDynamics
from offlinerlkit_romi.dynamics.fit import FitProgress
from offlinerlkit_romi.dynamics.oracle_dynamics import MujocoOracleDynamics
from offlinerlkit_romi.dynamics.weighted_dynamics import WeightedEnsembleDynamics

__all__ = [
    "BaseDynamics",
    "CountEnsembleDynamics",
    "EnsembleDynamics",
    "FitProgress",
    "MujocoOracleDynamics",
    "WeightedEnsembleDynamics",
]
