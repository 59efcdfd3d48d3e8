"""Where a family's data come from: its own files, how they are read, and stand-ins made here."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offlinerlkit_romi.data import antmaze, d4rl, neorl
from offlinerlkit_romi.data.antmaze_generate import generate_antmaze
from offlinerlkit_romi.data.any_source import read_any
from offlinerlkit_romi.data.archive import Archive
from offlinerlkit_romi.data.generate import generate, generated_path
from offlinerlkit_romi.data.hdf5 import REQUIRED, Episodes, Rows, episodes_of, read_rows
from offlinerlkit_romi.data.neorl_generate import generate_neorl, neorl_generated_path
from offlinerlkit_romi.data.raw import HDF5_SUFFIXES, SUFFIXES, rows_of

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


def origin_of(task: "Task") -> Origin:
    """Where a task's data come from."""
    return ORIGINS[task.family]


def read_file(path: Path, task: "Task") -> Rows:
    """Read a file by what it holds, not by whose it is: NeoRL's keys, D4RL's, or any other.

    Raises:
        UserError: See the readers.
    """
    held = keys_in(path)
    if {"obs", "action"} <= held:
        return neorl.read_npz(path, task)
    if path.suffix.lower() in HDF5_SUFFIXES and (not held or {*REQUIRED} <= held):
        return read_rows(path, task)
    return rows_of(read_any(str(path)), path, task)


def keys_in(path: Path) -> set[str]:
    """The arrays an HDF5 or npz file holds; none where it cannot be read."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return set()
    try:
        if path.suffix.lower() in HDF5_SUFFIXES:
            import h5py

            with h5py.File(path, "r") as file:
                return set(file)
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return set()
