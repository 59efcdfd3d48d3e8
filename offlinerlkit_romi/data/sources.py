"""`load`: a task's transitions from its benchmark, from this machine's simulator, or a file."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offlinerlkit_romi.data.card import SUFFIXES as CARDS
from offlinerlkit_romi.data.card import is_remote
from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.download import UnavailableError
from offlinerlkit_romi.data.hdf5 import Rows, transitions_of
from offlinerlkit_romi.data.origins import ORIGINS, Origin, origin_of, read_file
from offlinerlkit_romi.data.own import digest_of
from offlinerlkit_romi.data.tables import KINDS, READERS
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import file_digest

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

LABELS = tuple(dict.fromkeys(origin.label for origin in ORIGINS.values()))
SOURCES = ("auto", *LABELS, "generated")
QUICK_TIMEOUT = 4.0  # seconds an offline machine waits before `auto` generates
STAND_IN = (
    "generated on this machine, not a {0} file: {0}'s behaviour policies are other networks, "
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
        task: The benchmark's name, such as ``hopper-medium-replay-v2``.
        source: ``d4rl`` or whatever the task's family is labelled: the benchmark's own file,
            cached or downloaded, never anything else. ``generated``: the same task simulated here,
            cached. ``auto``: the benchmark's file if cached or downloadable, otherwise generated;
            `Dataset.info` says which. Anything else is the user's: a file (npz, HDF5, CSV,
            Parquet), a folder of episodes, a card or ``minari:ID``.
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
    origin = origin_of(facts)
    _check_label(source, facts, origin)
    notes: tuple[str, ...] = ()
    if source in ("auto", origin.label):
        try:
            timeout = QUICK_TIMEOUT if source == "auto" else 20.0
            return _load_official(facts, origin, timeout, progress, tell)
        except UnavailableError as error:
            if source == origin.label:
                raise
            cause = str(error).rpartition(": ")[0] or str(error)
            notes = (f"auto: {origin.title}'s file is not available here ({cause})",)
            tell(
                f"{task}: {notes[0].removeprefix('auto: ')}; "
                f"using {transitions} transitions generated on this machine instead"
            )
    if source in ("auto", "generated"):
        path = origin.generate(facts.name, transitions, seed, jobs=jobs, progress=progress)
        return read_dataset(path, facts, "generated", notes=notes)
    return _load_file(source, facts)


def _ignore(message: str) -> None:
    """The default `notify`."""


def _check_label(source: str, task: "Task", origin: Origin) -> None:
    if source in LABELS and source != origin.label:
        raise UserError(
            f"{task.name} is no task of {source}: give {origin.label} for its own file, "
            "generated, or the path of a file"
        )


def _load_official(
    task: "Task", origin: Origin, timeout: float, progress: bool, tell: Notify
) -> Dataset:
    archive = origin.archive
    path = archive.cached_path(task.name)
    if not path.exists():
        remote = archive.remote_of(task.name)
        size = "" if remote.size is None else f" ({remote.size / 1e6:.0f} MB)"
        tell(f"{path} is not there: trying {remote.url}{size}")
    path, sha256 = archive.fetch(task.name, timeout=timeout, progress=progress)
    return read_dataset(path, task, origin.label, sha256)


def _load_file(source: str, task: "Task") -> Dataset:
    path = Path(source).expanduser()
    known = is_remote(source) or path.suffix.lower() in (*READERS, *CARDS) or path.exists()
    if not known and path.name == source:
        raise UserError(f"no data source {source!r}: give {', '.join(SOURCES)}, {KINDS}")
    return read_dataset(path, task, "file")


def read_dataset(
    path: Path,
    task: "Task",
    source: str,
    sha256: str | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Read and check the rows of a benchmark's task.

    Args:
        path: The file, or another source of rows (see `any_source`).
        task: Facts the file must fit.
        source: What `DataInfo.source` will say.
        sha256: The file's digest where it is known already.
        notes: Put before the file's own.

    Raises:
        UserError: See `origins.read_file`.
    """
    origin = origin_of(task)
    # hashing takes as long as reading, and lets go of the interpreter meanwhile
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(lambda: sha256 or (file_digest(path) if _is_whole(path) else ""))
        rows = origin.refine(read_file(path, task), task)
        episodes = origin.episodes(rows)
        found = transitions_of(rows)
    digest = hashing.result()
    info = DataInfo(
        task=task.name,
        source=source,
        path=str(path),
        sha256=digest,
        env_version=_env_version(source, origin, rows.metadata),
        episodes=len(episodes.returns),
        behaviour_return=float(np.mean(episodes.returns)) if len(episodes.returns) else np.nan,
        notes=(*notes, *_notes(source, task, rows, _known_as(digest))),
        goal=rows.goal,
    )
    dataset = Dataset(
        found.observations,
        found.actions,
        found.next_observations,
        found.rewards,
        found.terminals,
        info,
        found.model_rows,
        rows.timeouts if rows.next_observations is not None else None,
        episodes,
    )
    return dataset if digest else dataset.with_info(sha256=digest_of(dataset))


def _is_whole(path: Path) -> bool:
    """Whether the bytes of `path` are the rows, and nothing else is."""
    return path.is_file() and path.suffix.lower() not in CARDS


def _env_version(source: str, origin: Origin, metadata: dict[str, str]) -> str:
    if source == origin.label:
        return origin.simulator
    if "generated" in metadata:
        return "{env_id}, gymnasium {gymnasium}, mujoco {mujoco}".format(**metadata)
    return "unknown (the file does not say)"


def _known_as(sha256: str) -> str | None:
    """Whose file has this digest: "D4RL's hopper-medium-v2"."""
    for origin in ORIGINS.values():
        task = origin.archive.task_of(sha256)
        if task is not None:
            return f"{origin.title}'s {task}"
    return None


def _notes(source: str, task: "Task", rows: Rows, known_as: str | None) -> list[str]:
    origin, notes = origin_of(task), []
    if source == origin.label:
        notes.append(f"{origin.title}'s own file, {origin.archive.verified(task.name)}")
    elif source == "file":
        same = f"the bytes of {known_as}" if known_as else f"not one of {origin.title}'s files"
        notes.append(f"a file of the user's: {same}")
    if "generated" in rows.metadata:
        policies = json.loads(rows.metadata["policies"])
        made_by = ", ".join(f"{name} ({count} rows)" for name, count in policies)
        notes += [STAND_IN.format(origin.title)]
        notes.append(f"collected by {made_by}, seed {rows.metadata['seed']}")
        if "trajectories" in rows.metadata:
            notes.append(f"{rows.metadata['trajectories']} trajectories of the task's own file")
    if rows.next_observations is None:
        notes.append("no stored next observations: taken from the next row of the same episode")
    return [*notes, *rows.notes]
