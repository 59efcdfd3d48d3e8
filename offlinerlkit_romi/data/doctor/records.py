"""What the doctor's checks look at: rows of a file or of a data set, and simulators' facts."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.checks import Bounds
from offlinerlkit_romi.data.dataset import Bools, Dataset
from offlinerlkit_romi.data.hdf5 import time_limits
from offlinerlkit_romi.data.raw import RawData
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

Array = NDArray[Any]
BLOCK_ROWS = 1 << 14  # keeps temporaries in cache
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


@dataclass(frozen=True)
class Records:
    """Rows in the order of the file.

    Attributes:
        observations: (n, S).
        actions: (n, A).
        rewards: (n,).
        terminals: (n,) bool.
        timeouts: (n,) bool; None where nobody says, or where such rows were left out.
        next_observations: (n, S); None where the next row's observation serves.
        task: Whose data these claim to be, if known.
        infos: Further columns, `infos/qpos` and `infos/qvel` among them.
        bounds: The actions' box, -1 and 1 for all where it is None.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminals: Bools
    timeouts: Bools | None
    next_observations: Array | None
    task: "Task | None" = None
    infos: dict[str, Array] | None = None
    bounds: Bounds | None = None

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def box(self) -> Bounds:
        """Lowest and highest action, one number per dimension."""
        width = self.actions.shape[1]
        return self.bounds or ((-1.0,) * width, (1.0,) * width)

    @property
    def simulator(self) -> Simulator | None:
        """The facts of the task's simulator, if it is one of those known."""
        simulator = SIMULATORS.get(self.rule_name or "")
        size = self.observations.shape[1]
        return simulator if simulator and simulator.fits(size) else None

    @property
    def rule_name(self) -> str | None:
        """Name of the simulator whose rule and starts hold; a user's own task has none."""
        from offlinerlkit_romi.envs.tasks import TASKS

        if self.task is None or self.task.name not in TASKS:
            return None
        return self.task.termination.removeprefix("neorl-")

    @cached_property
    def ends(self) -> Bools:
        """(n,) where an episode ends, as far as the flags say."""
        if self.timeouts is not None:
            return self.terminals | self.timeouts
        limit = 0 if self.task is None else self.task.max_episode_steps
        if self.next_observations is None and limit:
            return self.terminals | time_limits(self.terminals, limit)
        return self.terminals

    @cached_property
    def breaks(self) -> Bools:
        """(n,) where the next row does not start in this row's stored next state, bit for bit."""
        result = np.zeros(len(self), bool)
        if self.next_observations is None:
            return result
        for at in range(0, len(self) - 1, BLOCK_ROWS):
            stop = min(at + BLOCK_ROWS, len(self) - 1)
            differs = self.next_observations[at:stop] != self.observations[at + 1 : stop + 1]
            result[at:stop] = differs.any(axis=1)
        return result

    @cached_property
    def ordered(self) -> bool:
        """Whether rows follow each other in time, so that episodes can be told."""
        if self.next_observations is None:
            return True
        return int((self.breaks & ~self.ends).sum()) <= 0.5 * len(self)

    @cached_property
    def steps(self) -> Array:
        """(n,) how many steps its episode has taken after each row, by flags and breaks."""
        row = np.arange(len(self))
        begins = np.r_[True, (self.ends | self.breaks)[:-1]]
        return row - np.maximum.accumulate(np.where(begins, row, 0)) + 1

    def following(self, rows: Array) -> Array:
        """The next state of each of `rows` (k, S): stored, or the observation of the next row."""
        if self.next_observations is not None:
            return self.next_observations[rows]
        return self.observations[rows + 1]

    def torn(self, bad: Bools) -> Array:
        """Rows that no longer lead to the next one, and that no flag ends, once `bad` are gone."""
        kept = np.flatnonzero(~bad)
        before, after = kept[:-1], kept[1:]
        gap = after > before + 1
        before, after = before[gap], after[gap]
        if self.next_observations is not None:
            goes_on = (self.next_observations[before] == self.observations[after]).all(axis=1)
        else:  # only a copy of the row itself can go without a trace
            goes_on = after == before + 2
            for values in (self.observations, self.actions):
                goes_on &= (values[before] == values[before + 1]).all(axis=1)
        rows: Array = before[~goes_on & ~self.ends[before]]
        return rows

    def said_timeouts(self) -> Bools:
        """`timeouts`, or where they must be if nobody says."""
        if self.timeouts is not None:
            return self.timeouts
        result = (self.ends | self.breaks) & ~self.terminals
        result[-1] = False
        return result

    def without(self, bad: Bools) -> tuple["Records", Array]:
        """The other rows, cut where a part of an episode is missing, and their numbers here."""
        kept = np.flatnonzero(~bad)
        timeouts = self.timeouts
        if timeouts is not None or self.next_observations is None:
            timeouts = self.said_timeouts().copy()
            timeouts[self.torn(bad)] = True
        columns = (self.observations, self.actions, self.rewards, self.terminals, timeouts)
        obs, act, reward, terminal, timeout = (c if c is None else c[kept] for c in columns)
        following = None if self.next_observations is None else self.next_observations[kept]
        assert obs is not None and act is not None and reward is not None and terminal is not None
        return Records(obs, act, reward, terminal, timeout, following, self.task), kept


def of_raw(data: RawData, task: "Task | None", bounds: Bounds | None = None) -> Records:
    """The rows of a file, and the box of their actions where it is another than [-1, 1].

    Raises:
        UserError: A column has a shape that no check could read.
    """
    columns = data.columns
    for key in ("observations", "next_observations", "actions"):
        if key in columns and columns[key].ndim != 2:
            raise UserError(
                f"{data.source}: {key} has shape {columns[key].shape}: give one row per transition"
            )
    if "next_observations" in columns:
        shapes = columns["observations"].shape, columns["next_observations"].shape
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{data.source}: next_observations has shape {shapes[1]}, observations {shapes[0]}"
                ": write the file again"
            )
    if task is not None:
        _check_fits(data, task)
    terminals = data.flags("terminals")
    assert terminals is not None
    return Records(
        columns["observations"],
        columns["actions"],
        columns["rewards"].reshape(-1),
        terminals,
        data.flags("timeouts"),
        columns.get("next_observations"),
        task,
        {key: value for key, value in columns.items() if key.startswith("infos/")},
        bounds,
    )


def _check_fits(data: RawData, task: "Task") -> None:
    for key, size in (("observations", task.obs_dim), ("actions", task.action_dim)):
        if data.columns[key].shape[1] != size:
            raise UserError(
                f"{data.source}: {key} has shape {data.columns[key].shape}, {task.name} needs "
                f"({len(data)}, {size}): is this the file of another task?"
            )


def of_dataset(dataset: Dataset, task: "Task | None") -> Records:
    """The rows of a loaded data set, sharing its memory.

    Next states that the loader took from the following row are judged as stored ones: rows that
    have none are gone, so the order of the rest is not told by flags.
    """
    return Records(
        dataset.observations,
        dataset.actions,
        dataset.rewards[:, 0],
        dataset.terminals[:, 0],
        dataset.timeouts,
        dataset.next_observations,
        task,
    )
