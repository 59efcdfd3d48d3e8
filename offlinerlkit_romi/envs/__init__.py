"""Tasks by their benchmarks' names, their simulators, evaluation and normalised scores."""

from offlinerlkit_romi.envs.evaluation import EvalResult, EvalSettings, Evaluator
from offlinerlkit_romi.envs.families import FAMILIES, Family, family_of
from offlinerlkit_romi.envs.make import make_env
from offlinerlkit_romi.envs.scores import normalized_score, normalized_std
from offlinerlkit_romi.envs.tasks import Task, canonical, get_task, task_names

__all__ = [
    "FAMILIES",
    "EvalResult",
    "EvalSettings",
    "Evaluator",
    "Family",
    "Task",
    "canonical",
    "family_of",
    "get_task",
    "make_env",
    "normalized_score",
    "normalized_std",
    "task_names",
]
