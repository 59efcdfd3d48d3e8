"""Where simulators' episodes begin, and which simulator's rows these claim to be."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from offlinerlkit_romi.data.checks import check_table
from offlinerlkit_romi.data.rows import Array, Bools, Bounds, Rows
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

ROUNDING = 1e-6  # states are stored as float32


@dataclass(frozen=True)
class Simulator:
    """Where episodes begin, in D4RL's observation: positions without x, then velocities.

    gymnasium's `-v4` classes add uniform noise to `positions`, and noise around zero to the
    velocities, Gaussian for HalfCheetah (taken here as six standard deviations).
    """

    positions: tuple[float, ...]
    position_noise: float
    velocity_noise: float

    def fits(self, size: int) -> bool:
        """Whether observations of this size are its own, without or with the root's x."""
        return size - 2 * len(self.positions) in (1, 2)

    def contains(self, states: Array) -> Bools:
        """Which states (n, S) are those of a reset; S may include the root's x, in front."""
        size = len(self.positions)
        velocities = size + 1  # x has one too
        x = states.shape[1] - size - velocities
        centre = np.r_[np.zeros(x), self.positions, np.zeros(velocities)]
        reach = np.r_[
            np.full(x + size, self.position_noise), np.full(velocities, self.velocity_noise)
        ]
        result = np.zeros(len(states), bool)
        candidates = np.arange(len(states))
        # velocities first: hardly any row is slow in all of them
        for column in range(states.shape[1] - 1, -1, -1):
            away = np.abs(states[candidates, column] - centre[column])
            candidates = candidates[away <= reach[column] + ROUNDING]
        result[candidates] = True
        return result


# by termination rule: of these the rule is the simulator's own, and the start is known
SIMULATORS = {
    "halfcheetah": Simulator((0.0,) * 8, 0.1, 0.6),
    "hopper": Simulator((1.25, *(0.0,) * 4), 5e-3, 5e-3),
    "walker2d": Simulator((1.25, *(0.0,) * 7), 5e-3, 5e-3),
}
MAZE_RULE = "antmaze"
CLIPPED_VELOCITY = 10.0  # Hopper and Walker2d show no more than this


def rule_name(rows: Rows) -> str | None:
    """Name of the simulator whose rule and starts hold; a user's own task has none."""
    from offlinerlkit_romi.envs.tasks import TASKS

    if rows.task is None or rows.task.name not in TASKS:
        return None
    return rows.task.termination.removeprefix("neorl-")


def simulator_of(rows: Rows) -> Simulator | None:
    """The facts of the task's simulator, if it is one of those known."""
    simulator = SIMULATORS.get(rule_name(rows) or "")
    return simulator if simulator and simulator.fits(rows.observations.shape[1]) else None


def claimed(rows: Rows, task: "Task | None", bounds: Bounds | None = None) -> Rows:
    """The rows as those of a task, and the box of their actions where it is not [-1, 1].

    Raises:
        UserError: A column has a shape that no check could read.
    """
    check_table(rows)
    sizes = {} if task is None else {"observations": task.obs_dim, "actions": task.action_dim}
    for key, size in sizes.items():
        shape = rows.columns[key].shape
        if task is not None and shape[1] != size:
            raise UserError(
                f"{rows.source}: {key} has shape {shape}, {task.name} needs "
                f"({len(rows)}, {size}): is this the file of another task?"
            )
    return replace(rows, task=task, bounds=bounds)
