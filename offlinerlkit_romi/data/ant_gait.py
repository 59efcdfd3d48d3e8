"""A scripted ant: one open-loop gait, turned and mirrored towards the next cell of a maze.

The gait's numbers come from a random search for distance on open floor
(`benchmarks/ant_gait.py`); the ant is four-fold symmetric, so it runs in eight directions.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.mazes import SCALE, WALL, Maze

Array = NDArray[np.float64]
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
