"""`load`: a task's transitions from D4RL, from this machine's simulator, or from a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offlinerlkit_romi.data import d4rl
from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.download import UnavailableError
from offlinerlkit_romi.data.folders import sha256_of
from offlinerlkit_romi.data.generate import generate
from offlinerlkit_romi.data.hdf5 import Rows, episodes_of, read_rows, transitions_of
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

SOURCES = ("auto", "d4rl", "generated")
QUICK_TIMEOUT = 4.0  # seconds an offline machine waits before `auto` generates
D4RL_SIMULATOR = "gym -v2 (mujoco-py), as D4RL collected it"
STAND_IN = (
    "generated on this machine, not a D4RL file: D4RL's behaviour policies are other networks, "
    "so scores are not comparable with published ones"
)

Notify = Callable[[str], None]


def load(
    task: str,
    source: str = "auto",
    *,
    transitions: int = 200_000,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    notify: Notify | None = None,
) -> Dataset:
    """Load a task's transitions.

    Args:
        task: D4RL's name, such as ``hopper-medium-replay-v2``.
        source: ``d4rl``: D4RL's file, cached or downloaded, never anything else. ``generated``:
            the same task simulated here, cached. ``auto``: D4RL's file if cached or downloadable,
            otherwise generated; `Dataset.info` says which. Anything else is the path of an HDF5
            file in D4RL's format.
        transitions: Rows of a generated data set; a file is always read whole.
        seed: Seed of a generated data set.
        jobs: Processes that simulate; default one per core.
        progress: Show progress bars on stderr.
        notify: Hears one line when something is worth telling (which source `auto` took, a long
            download).

    Returns:
        float32 arrays with next states of the same episode, and where they come from.

    Raises:
        UserError: Unknown task, unreadable or unsuitable data, no network, no space on the disk.
    """
    from offlinerlkit_romi.envs.tasks import get_task

    facts, tell = get_task(task), notify or _ignore
    notes: tuple[str, ...] = ()
    if source in ("auto", "d4rl"):
        try:
            return _load_d4rl(facts, QUICK_TIMEOUT if source == "auto" else 20.0, progress, tell)
        except UnavailableError as error:
            if source == "d4rl":
                raise
            cause = str(error).rpartition(": ")[0] or str(error)
            notes = (f"auto: D4RL's file is not available here ({cause})",)
            tell(
                f"{task}: {notes[0].removeprefix('auto: ')}; "
                f"using {transitions} transitions generated on this machine instead"
            )
    if source in ("auto", "generated"):
        path = generate(task, transitions, seed, jobs=jobs, progress=progress)
        return read_dataset(path, facts, "generated", notes=notes)
    return _load_file(source, facts)


def _ignore(message: str) -> None:
    """The default `notify`."""


def _load_d4rl(task: "Task", timeout: float, progress: bool, tell: Notify) -> Dataset:
    path = d4rl.cached_path(task.name)
    if not path.exists():
        remote = d4rl.remote_of(task.name)
        tell(f"{path} is not there: trying {remote.url} ({remote.size / 1e6:.0f} MB)")
    path, sha256 = d4rl.fetch(task.name, timeout=timeout, progress=progress)
    return read_dataset(path, task, "d4rl", sha256)


def _load_file(source: str, task: "Task") -> Dataset:
    path = Path(source).expanduser()
    if not path.exists() and path.suffix not in (".hdf5", ".h5") and path.name == source:
        raise UserError(
            f"no data source {source!r}: give {', '.join(SOURCES)} or the path of an HDF5 file"
        )
    return read_dataset(path, task, "file")


def read_dataset(
    path: Path,
    task: "Task",
    source: str,
    sha256: str | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Read and check a file in D4RL's format.

    Args:
        path: The file.
        task: Facts the file must fit.
        source: What `DataInfo.source` will say.
        sha256: The file's digest where it is known already.
        notes: Put before the file's own.

    Raises:
        UserError: See `hdf5.read_rows`.
    """
    rows = read_rows(path, task)
    episodes = episodes_of(rows.rewards, rows.terminals, rows.timeouts)
    found = transitions_of(rows)
    digest = sha256 or sha256_of(path)
    info = DataInfo(
        task=task.name,
        source=source,
        path=str(path),
        sha256=digest,
        env_version=_env_version(source, rows.metadata),
        episodes=len(episodes.returns),
        behaviour_return=float(np.mean(episodes.returns)) if len(episodes.returns) else np.nan,
        notes=(*notes, *_notes(source, rows, d4rl.task_of(digest))),
    )
    return Dataset(
        found.observations,
        found.actions,
        found.next_observations,
        found.rewards,
        found.terminals,
        info,
        found.model_rows,
    )


def _env_version(source: str, metadata: dict[str, str]) -> str:
    if source == "d4rl":
        return D4RL_SIMULATOR
    if "generated" in metadata:
        return "{env_id}, gymnasium {gymnasium}, mujoco {mujoco}".format(**metadata)
    return "unknown (the file does not say)"


def _notes(source: str, rows: Rows, known_as: str | None) -> list[str]:
    notes = []
    if source == "d4rl":
        notes.append("D4RL's own file, size and sha256 verified")
    elif source == "file":
        same = f"the bytes of D4RL's {known_as}" if known_as else "not one of D4RL's files"
        notes.append(f"a file of the user's: {same}")
    if "generated" in rows.metadata:
        policies = json.loads(rows.metadata["policies"])
        made_by = ", ".join(f"{name} ({count} rows)" for name, count in policies)
        notes += [STAND_IN, f"collected by {made_by}, seed {rows.metadata['seed']}"]
    if rows.next_observations is None:
        notes.append("no stored next observations: taken from the next row of the same episode")
    return notes
