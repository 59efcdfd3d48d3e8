"""Where a family's data come from: its own files, how they are read, and stand-ins made here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offlinerlkit_romi.data import d4rl_antmaze
from offlinerlkit_romi.data.archive import D4RL, D4RL_ANTMAZE, NEORL, Archive
from offlinerlkit_romi.data.rows import Episodes, Rows

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task


@dataclass(frozen=True)
class Origin:
    """The data of one family (see `envs.families`).

    Attributes:
        label: What `--data` and `DataInfo.source` call its own files.
        title: Whose files these are, in a sentence.
        archive: Where its own files are.
        simulator: What made them.
        refine: Corrects what a file of this family is known to say wrongly.
        episodes: Returns and lengths of the complete episodes.
    """

    label: str
    title: str
    archive: Archive
    simulator: str
    refine: Callable[[Rows, "Task"], Rows] = lambda rows, _: rows
    episodes: Callable[[Rows], Episodes] = Rows.episodes


ORIGINS = {
    "d4rl-mujoco": Origin("d4rl", "D4RL", D4RL, "gym -v2 (mujoco-py), as D4RL collected it"),
    "d4rl-antmaze": Origin(
        "d4rl",
        "D4RL",
        D4RL_ANTMAZE,
        "gym AntMaze (mujoco-py), as D4RL collected it",
        d4rl_antmaze.refine,
        d4rl_antmaze.successes_of,
    ),
    "neorl": Origin(
        "neorl",
        "NeoRL",
        NEORL,
        "gym -v3 (mujoco-py) with the x position, as polixir collected it",
    ),
}


def origin_of(task: "Task") -> Origin:
    """Where a task's data come from."""
    return ORIGINS[task.family]
