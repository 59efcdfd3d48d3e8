"""D4RL's three mazes as plain facts: walls, start, goal. Needs no simulator."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.tasks import Task

Array = NDArray[np.float64]
SCALE = 4.0  # metres per cell
GOAL_RADIUS = 0.5
WALL, FREE, START, GOAL = 1, 0, "r", "g"

# D4RL's *_TEST maps: # wall, R start, G goal
_MAPS = {
    "umaze": """
#####
#R  #
### #
#G  #
#####
""",
    "medium": """
########
#R ##  #
#  #   #
##   ###
#  #   #
# #  # #
#   # G#
########
""",
    "large": """
############
#R   #     #
# ## # # # #
#      #   #
# #### ### #
#  # #     #
## # # # ###
#  #   # G #
############
""",
}
_SIGNS: dict[str, int | str] = {"#": WALL, " ": FREE, "R": START, "G": GOAL}


@dataclass(frozen=True)
class Maze:
    """One maze; rows grow with y, columns with x, and the start cell's centre is the origin.

    Attributes:
        rows: The map, with `WALL`, `FREE`, `START` and `GOAL` in its cells.
    """

    rows: tuple[tuple[int | str, ...], ...]

    def find(self, sign: int | str) -> tuple[int, int]:
        """Row and column of the first cell with this sign."""
        return next((i, r.index(sign)) for i, r in enumerate(self.rows) if sign in r)

    def free_cells(self) -> list[tuple[int, int]]:
        """Rows and columns of all cells that are no wall."""
        return [(i, j) for i, r in enumerate(self.rows) for j, s in enumerate(r) if s != WALL]

    def centre(self, cell: tuple[int, int]) -> Array:
        """Position (2,) of a cell's centre."""
        row, column = self.find(START)
        return SCALE * np.array([cell[1] - column, cell[0] - row], np.float64)

    @property
    def offset(self) -> Array:
        """What to add to a position (2,) in gymnasium-robotics' frame, centred on the maze."""
        height, width = len(self.rows), len(self.rows[0])
        row, column = self.find(START)
        return SCALE * np.array([width / 2 - 0.5 - column, height / 2 - 0.5 - row])

    def draw_goal(self, rng: np.random.Generator) -> Array:
        """D4RL's goal (2,): the goal cell's centre and two uniform shares of it, not below 0."""
        noise = rng.uniform(0, 0.25 * SCALE, 2) + 0.25 * SCALE * rng.uniform(0, 0.5, 2)
        return np.maximum(self.centre(self.find(GOAL)) + noise, 0.0)


def _parse(text: str) -> Maze:
    return Maze(tuple(tuple(_SIGNS[sign] for sign in line) for line in text.split("\n") if line))


MAZES = {name: _parse(text) for name, text in _MAPS.items()}


def maze_of(task: Task) -> Maze:
    """The maze of an antmaze task, the second word of its name."""
    return MAZES[task.name.split("-")[1]]
