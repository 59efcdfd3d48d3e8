"""Where a family's data come from: its own files, how they are read, and stand-ins made here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offlinerlkit_romi.data import antmaze, d4rl, neorl
from offlinerlkit_romi.data.antmaze_generate import generate_antmaze
from offlinerlkit_romi.data.archive import Archive
from offlinerlkit_romi.data.generate import generate, generated_path
from offlinerlkit_romi.data.hdf5 import Episodes, Rows, episodes_of, read_rows
from offlinerlkit_romi.data.neorl_generate import generate_neorl, neorl_generated_path

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task


def _as_read(rows: Rows, task: "Task") -> Rows:
    del task
    return rows


def _episodes(rows: Rows) -> Episodes:
    return episodes_of(rows.rewards, rows.terminals, rows.timeouts)


@dataclass(frozen=True)
class Origin:
    """The data of one family (see `envs.families`).

    Attributes:
        label: What `--data` and `DataInfo.source` call its own files.
        title: Whose files these are, in a sentence.
        archive: Where its own files are.
        simulator: What made them.
        generate: `generate(task, transitions, seed, jobs=, progress=, force=)` makes a stand-in.
        generated_path: `generated_path(task, transitions, seed)`: where that one is kept.
        refine: Corrects what a file of this family is known to say wrongly.
        episodes: Returns and lengths of the complete episodes.
    """

    label: str
    title: str
    archive: Archive
    simulator: str
    generate: Callable[..., Path]
    generated_path: Callable[[str, int, int], Path]
    refine: Callable[[Rows, "Task"], Rows] = _as_read
    episodes: Callable[[Rows], Episodes] = _episodes


ORIGINS = {
    "d4rl-mujoco": Origin(
        "d4rl",
        "D4RL",
        d4rl.ARCHIVE,
        "gym -v2 (mujoco-py), as D4RL collected it",
        generate,
        generated_path,
    ),
    "d4rl-antmaze": Origin(
        "d4rl",
        "D4RL",
        antmaze.ARCHIVE,
        "gym AntMaze (mujoco-py), as D4RL collected it",
        generate_antmaze,
        generated_path,
        antmaze.refine,
        antmaze.successes_of,
    ),
    "neorl": Origin(
        "neorl",
        "NeoRL",
        neorl.ARCHIVE,
        "gym -v3 (mujoco-py) with the x position, as polixir collected it",
        generate_neorl,
        neorl_generated_path,
    ),
}

# how a file is read depends on what it is, not on whose it is
READERS: dict[str, Callable[[Path, "Task"], Rows]] = {
    ".hdf5": read_rows,
    ".h5": read_rows,
    ".npz": neorl.read_npz,
}


def origin_of(task: "Task") -> Origin:
    """Where a task's data come from."""
    return ORIGINS[task.family]


def read_file(path: Path, task: "Task") -> Rows:
    """Read a file by its suffix; anything unknown is taken for HDF5.

    Raises:
        UserError: See the readers.
    """
    return READERS.get(path.suffix.lower(), read_rows)(path, task)
