"""The simulator behind a task: Gymnasium's ``-v4``, which is the one D4RL's data came from.

``-v5`` is not: it drops the alive bonus on the terminating step and gives Walker2d other feet.
MuJoCo 3.5 sums the margins of two touching geoms where it took their maximum, which makes another
Hopper (one-step differences up to 0.19 where older versions agree to 1e-14) and another Ant;
HalfCheetah and Walker2d have no margins and do not change.
"""

from functools import partial
from typing import Any

import numpy as np

from offlinerlkit_romi.envs.families import family_of
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.errors import UserError

MUJOCO_LIMIT = (3, 5)
WITH_MARGINS = ("Hopper", "Ant")


def make_env(task: Task | str, seed: int = 0) -> Any:
    """Make a task's simulator with its time limit and with actions clipped to [-1, 1].

    The physics clips by itself, the control cost does not; D4RL's wrapper clips before both.

    Args:
        task: A task or its name.
        seed: Of what the family draws once per environment (see `families.Family`).

    Returns:
        A Gymnasium environment: ``reset(seed=...) -> (obs, info)``, ``step -> five values``.

    Raises:
        UserError: A package is missing, or MuJoCo is a version with another Hopper or Ant.
    """
    task = get_task(task) if isinstance(task, str) else task
    env = make_bare_env(task, seed)
    from gymnasium.wrappers import TimeLimit, TransformAction

    clip = partial(np.clip, a_min=-1.0, a_max=1.0)
    limited = TimeLimit(env, max_episode_steps=task.max_episode_steps)
    return TransformAction(limited, clip, env.action_space)


def make_bare_env(task: Task | str, seed: int = 0, **options: Any) -> Any:
    """Make a task's simulator alone: the caller clips the actions and counts the steps.

    `options` are Gymnasium's, such as `render_mode`; a function of the user's does not hear them.
    """
    task = get_task(task) if isinstance(task, str) else task
    family = family_of(task)
    family.require()
    if "mujoco" in family.packages:
        import mujoco

        _check_mujoco(mujoco.__version__, task)
    return family.maker(task, seed, **options)


def _check_mujoco(version: str, task: Task) -> None:
    release = tuple(int(part) for part in version.split(".")[:2])
    if task.env_id.startswith(WITH_MARGINS) and release >= MUJOCO_LIMIT:
        robot = next(name for name in WITH_MARGINS if task.env_id.startswith(name))
        raise UserError(
            f"mujoco {version} simulates another {robot} than the data of {task.name} came from: "
            "pip install 'mujoco>=3.0,<3.5'"
        )
