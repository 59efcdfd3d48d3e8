"""The simulator behind a task: Gymnasium's ``-v4``, which is the one D4RL's data came from.

``-v5`` is not: it drops the alive bonus on the terminating step and gives Walker2d other feet.
MuJoCo 3.5 sums the margins of two touching geoms where it took their maximum, which makes another
Hopper (one-step differences up to 0.19 where older versions agree to 1e-14); HalfCheetah and
Walker2d have no margins and do not change.
"""

import warnings
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.errors import UserError

MUJOCO_LIMIT = (3, 5)
INSTALL = "pip install 'gymnasium[mujoco]>=1.0' 'mujoco>=3.0,<3.5'"


def make_env(task: Task | str) -> Any:
    """Make a task's simulator with its time limit and with actions clipped to [-1, 1].

    The physics clips by itself, the control cost does not; D4RL's wrapper clips before both.

    Returns:
        A Gymnasium environment: ``reset(seed=...) -> (obs, info)``, ``step -> five values``.

    Raises:
        UserError: A package is missing, or MuJoCo is a version with another Hopper.
    """
    env = _make(get_task(task) if isinstance(task, str) else task)
    from gymnasium.wrappers import TransformAction

    clip = partial(np.clip, a_min=-1.0, a_max=1.0)
    return TransformAction(env, clip, env.action_space)


def make_bare_env(task: Task | str) -> Any:
    """Make a task's simulator alone: the caller clips the actions and counts the steps."""
    return _make(get_task(task) if isinstance(task, str) else task).unwrapped


def _make(task: Task) -> Any:
    gymnasium = _require("gymnasium")
    _check_mujoco(_require("mujoco").__version__, task)
    with warnings.catch_warnings():
        # Gymnasium recommends -v5 whenever -v4 is made; other warnings stay audible.
        warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
        return gymnasium.make(
            task.env_id, max_episode_steps=task.max_episode_steps, disable_env_checker=True
        )


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(f"evaluation needs the package {package}: {INSTALL}") from error


def _check_mujoco(version: str, task: Task) -> None:
    release = tuple(int(part) for part in version.split(".")[:2])
    if task.termination == "hopper" and release >= MUJOCO_LIMIT:
        raise UserError(
            f"mujoco {version} simulates another Hopper than the data of {task.name} came from: "
            "pip install 'mujoco>=3.0,<3.5'"
        )
