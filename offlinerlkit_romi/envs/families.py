"""What the tasks of one benchmark have in common: how their simulator is made, what it needs."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from offlinerlkit_romi.envs.custom import CustomTask, gymnasium_env
from offlinerlkit_romi.envs.shifts import PARAMETERS
from offlinerlkit_romi.envs.tasks import Task
from offlinerlkit_romi.errors import UserError

MUJOCO = "pip install 'gymnasium[mujoco]>=1.0' 'mujoco>=3.0,<3.5'"


@dataclass(frozen=True)
class Family:
    """One benchmark's simulators.

    Attributes:
        name: As in `Task.family`.
        about: A line for people.
        maker: Gets a task, a seed and Gymnasium's options, and returns an environment without a
            time limit, which takes actions in [-1, 1] and may be told others. The seed decides
            what is drawn once per environment object; what is drawn at each reset depends on the
            reset's seed.
        packages: What evaluation needs, as they are imported.
        install: The command that installs them.
        parameters: What of its simulator may be shifted, see `shifts.PARAMETERS`.
    """

    name: str
    about: str
    maker: Callable[..., Any]
    packages: tuple[str, ...] = ("gymnasium", "mujoco")
    install: str = MUJOCO
    parameters: tuple[str, ...] = ()

    def require(self) -> None:
        """Import the packages.

        Raises:
            UserError: One is missing; the message holds the command that installs it.
        """
        for package in self.packages:
            try:
                with redirect_stderr(io.StringIO()):  # Farama's greet with notices of other tasks
                    import_module(package)
            except ImportError as error:
                raise UserError(
                    f"evaluation needs the package {package}: {self.install}"
                ) from error


def make_gymnasium(task: Task, seed: int = 0, **options: Any) -> Any:
    """Gymnasium's environment of the task's id, bare."""
    del seed  # nothing is drawn before the first reset
    return gymnasium_env(task.env_id, **options).unwrapped


def make_antmaze(task: Task, seed: int = 0, **options: Any) -> Any:
    """D4RL's maze on gymnasium-robotics."""
    from offlinerlkit_romi.envs.antmaze import AntMaze

    return AntMaze(task, seed, **options)


def make_custom(task: Task, seed: int = 0, **options: Any) -> Any:
    """The simulator that a data set of the user's names."""
    del seed  # what the user's function draws is its own
    assert isinstance(task, CustomTask)
    return task.make_env(**options)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "d4rl-mujoco",
            "D4RL's locomotion tasks, version 2",
            make_gymnasium,
            parameters=tuple(PARAMETERS),
        ),
        Family(
            "d4rl-antmaze",
            "D4RL's AntMaze, versions 0 and 2",
            make_antmaze,
            packages=("gymnasium", "mujoco", "gymnasium_robotics"),
            install="pip install 'offlinerlkit-romi[antmaze]'",
        ),
        Family("custom", "the user's own data", make_custom, packages=(), install=""),
        Family("minari", "Minari's data sets", make_custom, packages=(), install=""),
        Family(
            "neorl",
            "NeoRL's MuJoCo tasks: the x position is observed",
            partial(make_gymnasium, exclude_current_positions_from_observation=False),
            parameters=tuple(PARAMETERS),
        ),
    )
}


def family_of(task: Task) -> Family:
    """The family a task belongs to."""
    return FAMILIES[task.family]
