"""A scripted ant in D4RL's mazes: one open-loop gait, turned towards the next cell of the maze.

The gait's numbers come from a random search for distance on open floor
(`benchmarks/ant_gait.py`); the ant is four-fold symmetric, so it runs in eight directions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.mazes import GOAL_RADIUS, SCALE, WALL, Maze
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.standins.simulate import Shard

Array = NDArray[np.float64]
Rows = NDArray[Any]
# per actuator (hip and ankle of the legs at 4, 1, 2, 3 o'clock, counter-clockwise from +x -y):
# amplitude, phase and offset of a sine; one frequency in hertz
AMPLITUDE = np.array([-0.53, 1.16, 1.32, 0.42, 0.03, 0.66, 0.27, 0.02])
PHASE = np.array([6.81, 6.16, 5.16, 4.1, 3.48, 3.2, 1.09, 5.25])
OFFSET = np.array([-0.23, 0.39, -0.31, -0.48, -0.13, 0.03, -0.66, -0.55])
FREQUENCY = 1.25
SECONDS_PER_STEP = 0.1
PERIOD = 8  # steps, after which the direction is chosen again
HEADING = np.radians(150.0)  # of the gait as searched, in the ant's frame; mirrored: minus this
# the model's ankle axes point outwards at legs 4 and 1 and inwards at 2 and 3
ANKLES = np.array([1.0, 1.0, -1.0, -1.0])
NEAR = 1.0  # metres from a cell's centre at which the next one is aimed at
CAPSIZED = 0.0  # cosine between the torso's axis and the vertical
NOISE = 0.2  # standard deviation, as D4RL's noisy collection
ON_ITS_BACK = 50  # steps after which a capsized ant is given up


def gait(step: int, turns: int, mirrored: bool) -> Array:
    """Actions (8,) of a step, turned by quarter `turns` and mirrored at the ant's x axis."""
    phase = 2 * np.pi * FREQUENCY * SECONDS_PER_STEP * step + PHASE
    legs = np.clip(OFFSET + AMPLITUDE * np.sin(phase), -1, 1).reshape(4, 2)  # (8,) -> (4, 2)
    legs[:, 1] *= ANKLES
    if mirrored:
        legs = legs[[1, 0, 3, 2]] * [-1.0, 1.0]
    legs = np.roll(legs, turns, axis=0)
    legs[:, 1] *= ANKLES
    return legs.reshape(8)


def yaw_of(obs: Array) -> float:
    """Heading of the torso in radians, from its quaternion."""
    w, x, y, z = obs[3:7]
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def capsized(obs: Array) -> bool:
    """Whether the ant lies on its back, from where it does not get up."""
    return bool(1 - 2 * (obs[4] ** 2 + obs[5] ** 2) < CAPSIZED)


def best_turn(direction: float) -> tuple[int, bool]:
    """The quarter turns and mirroring that run nearest to a direction in the ant's frame."""
    choices = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]

    def error(choice: tuple[int, bool]) -> float:
        turns, mirrored = choice
        heading = (-HEADING if mirrored else HEADING) + turns * np.pi / 2
        return float(abs(np.angle(np.exp(1j * (direction - heading)))))

    return min(choices, key=error)


def cell_of(maze: Maze, position: Array) -> tuple[int, int]:
    """Row and column of the free cell nearest to a position (2,)."""
    return min(maze.free_cells(), key=lambda c: float(((maze.centre(c) - position) ** 2).sum()))


def path_between(maze: Maze, start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells from `start` to `end`, both included, along a shortest way."""
    before = {end: end}
    queue = deque([end])
    while queue:
        row, column = queue.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if cell not in before and maze.rows[cell[0]][cell[1]] != WALL:
                before[cell] = (row, column)
                queue.append(cell)
    path = [start]
    while path[-1] != end:
        path.append(before[path[-1]])
    return path


@dataclass
class Walker:
    """Walks one ant from where it stands to a target, and stays there.

    Attributes:
        maze: Where it is.
        target: Position (2,) in D4RL's frame.
    """

    maze: Maze
    target: Array
    step: int = field(default=0, init=False)
    turn: tuple[int, bool] = field(default=(0, False), init=False)

    def __call__(self, obs: Array) -> Array:
        """Actions (8,) for an observation (29,)."""
        if self.step % PERIOD == 0:
            self.turn = best_turn(self._direction(obs[:2]) - yaw_of(obs))
        self.step += 1
        return gait(self.step, *self.turn)

    def _direction(self, position: Array) -> float:
        aim = self._aim(position) - position
        return float(np.arctan2(aim[1], aim[0]))

    def _aim(self, position: Array) -> Array:
        """The target, or the centre of the next cell on the way to it."""
        path = path_between(
            self.maze, cell_of(self.maze, position), cell_of(self.maze, self.target)
        )
        if len(path) == 1:
            return self.target
        here, following = self.maze.centre(path[0]), self.maze.centre(path[1])
        # cut no corner: first to the middle of this cell, unless already past it
        along = (following - here) / SCALE
        past = float((position - here) @ along) > -NEAR
        aside = float(np.linalg.norm((position - here) - ((position - here) @ along) * along))
        return following if past and aside < NEAR else here


def collect_maze(shard: Shard, report: Callable[[int], None] | None = None) -> dict[str, Rows]:
    """Trajectories with exactly `shard.rows` rows under D4RL's keys; the last one may be cut.

    As D4RL's: collected towards targets of their own (`infos/goal`), relabelled with the reward of
    one goal per file, not ended there, without next observations.
    """
    from offlinerlkit_romi.envs.antmaze import AntMaze

    task, rng = get_task(shard.environment), np.random.default_rng(shard.seed)
    env = AntMaze(task)
    goal = env.maze.draw_goal(np.random.default_rng(shard.seed[:1]))  # the file's
    collector = _Collector(env, task, goal, rng)
    rows: list[dict[str, Any]] = []
    while len(rows) < shard.rows:
        rows += collector.trajectory(shard.rows - len(rows))
        if report is not None:
            report(len(rows))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


@dataclass(frozen=True)
class _Collector:
    env: Any
    task: Task
    goal: Array
    rng: np.random.Generator

    def trajectory(self, most: int) -> list[dict[str, Any]]:
        """One trajectory of at most `most` rows; its last row is a time limit."""
        seed = int(self.rng.integers(2**31))
        start = self._any_cell() if self._wanders else np.zeros(2)
        obs, _ = self.env.reset(seed=seed, options={"start": start, "goal": self.goal})
        walker, down = self._walker(obs), 0
        rows: list[dict[str, Any]] = []
        limit = min(most, self.task.max_episode_steps)
        while len(rows) < limit and down < ON_ITS_BACK:
            action = np.clip(walker(obs) + NOISE * self.rng.standard_normal(8), -1.0, 1.0)
            action = action.astype(np.float32)
            following = self.env.step(action)[0]
            rows.append(self._row(obs, action, following, walker.target))
            down = down + 1 if capsized(following) else 0
            obs = following
            if self._wanders and np.linalg.norm(obs[:2] - walker.target) <= GOAL_RADIUS:
                walker = self._walker(obs)
        rows[-1]["timeouts"] = np.True_
        return rows

    @property
    def _wanders(self) -> bool:
        """All data sets but umaze's start anywhere and go from one cell to another."""
        return not self.task.name.startswith("antmaze-umaze-v")

    def _any_cell(self) -> Array:
        maze: Maze = self.env.maze
        cells = maze.free_cells()
        return maze.centre(cells[int(self.rng.integers(len(cells)))])

    def _walker(self, obs: Array) -> Walker:
        target = self._any_cell() if self._wanders else self.goal
        while self._wanders and np.linalg.norm(target - obs[:2]) <= GOAL_RADIUS:
            target = self._any_cell()
        return Walker(self.env.maze, target)

    def _row(self, obs: Array, action: Rows, following: Array, target: Array) -> dict[str, Any]:
        reached = np.linalg.norm(following[:2] - self.goal) <= GOAL_RADIUS
        stored = obs.astype(np.float32)
        return {
            "observations": stored,
            "actions": action,
            "rewards": np.float32(reached),
            "terminals": np.bool_(reached),
            "timeouts": np.False_,
            "infos/goal": target.astype(np.float32),
            "infos/qpos": stored[:15],
            "infos/qvel": stored[15:],
        }
