"""Collect trajectories of a scripted ant in D4RL's mazes, one ant at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.ant_gait import Walker, capsized
from offlinerlkit_romi.data.lanes import Array

if TYPE_CHECKING:
    from offlinerlkit_romi.data.worker import Shard
    from offlinerlkit_romi.envs.mazes import Maze
    from offlinerlkit_romi.envs.tasks import Task

NOISE = 0.2  # standard deviation, as D4RL's noisy collection
GOAL_RADIUS = 0.5
ON_ITS_BACK = 50  # steps after which a capsized ant is given up
Position = NDArray[np.float64]


def collect_maze(shard: Shard, report: Callable[[int], None] | None = None) -> dict[str, Array]:
    """Trajectories with exactly `shard.rows` rows under D4RL's keys; the last one may be cut.

    As D4RL's: collected towards targets of their own (`infos/goal`), relabelled with the reward of
    one goal per file, not ended there, without next observations.
    """
    from offlinerlkit_romi.envs import get_task
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
    goal: Position
    rng: np.random.Generator

    def trajectory(self, most: int) -> list[dict[str, Any]]:
        """One trajectory of at most `most` rows; its last row is a time limit."""
        obs, _ = self.env.reset(
            seed=int(self.rng.integers(2**31)), options={"start": self._start(), "goal": self.goal}
        )
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

    def _start(self) -> Position:
        return self._any_cell() if self._wanders else np.zeros(2)

    def _any_cell(self) -> Position:
        maze: Maze = self.env.maze
        cells = maze.free_cells()
        return maze.centre(cells[int(self.rng.integers(len(cells)))])

    def _walker(self, obs: Position) -> Walker:
        target = self._any_cell() if self._wanders else self.goal
        while self._wanders and np.linalg.norm(target - obs[:2]) <= GOAL_RADIUS:
            target = self._any_cell()
        return Walker(self.env.maze, target)

    def _row(
        self, obs: Position, action: Array, following: Position, target: Position
    ) -> dict[str, Any]:
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
