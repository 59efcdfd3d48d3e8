"""What a policy is worth, told from data alone: estimates, never scores."""

from offlinerlkit_romi.ope.fqe import FQEResult, FQERows, FQESettings, fitted_q_evaluation
from offlinerlkit_romi.ope.model_value import discount_horizon, model_value

__all__ = [
    "FQEResult",
    "FQERows",
    "FQESettings",
    "discount_horizon",
    "fitted_q_evaluation",
    "model_value",
]
