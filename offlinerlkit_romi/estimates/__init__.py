"""What a policy is worth, told from data alone: estimates, never scores."""

from offlinerlkit_romi.estimates.fqe import FQERows, FQESettings, fitted_q_evaluation, fqe_loss
from offlinerlkit_romi.estimates.model_value import discount_horizon, model_value

__all__ = [
    "FQERows",
    "FQESettings",
    "discount_horizon",
    "fitted_q_evaluation",
    "fqe_loss",
    "model_value",
]
