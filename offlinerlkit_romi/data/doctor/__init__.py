"""The data doctor: what is wrong with transitions, where, and what to do."""

from offlinerlkit_romi.data.doctor.diagnosis import CHECKS, Diagnosis, diagnose
from offlinerlkit_romi.data.doctor.finding import Finding

__all__ = ["CHECKS", "Diagnosis", "Finding", "diagnose"]
