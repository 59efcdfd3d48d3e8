"""Whose data a source is, and how it is read: a benchmark's task, or the user's own rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinerlkit_romi.data import neorl
from offlinerlkit_romi.data.benchmarks import ORIGINS, Origin, origin_of
from offlinerlkit_romi.data.card import SUFFIXES as CARDS
from offlinerlkit_romi.data.card import Card, card_of, is_remote
from offlinerlkit_romi.data.checks import fitted
from offlinerlkit_romi.data.columns import columns_of
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.data.download import UnavailableError
from offlinerlkit_romi.data.formats import (
    ARRAY_SUFFIXES,
    KINDS,
    READERS,
    Table,
    episodes_in,
    read_arrays,
)
from offlinerlkit_romi.data.own_rows import read_columns
from offlinerlkit_romi.data.rows import GOALS, KNOWN, MATRICES, MIX, REQUIRED, Array, Rows, as_rows
from offlinerlkit_romi.data.user import MEMORY, load_own
from offlinerlkit_romi.envs.minari import open_minari
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.recipes import generate
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


def load_dataset(data: Any, source: str | None = None, **facts: Any) -> Dataset:
    """Load transitions of a known task, or the user's own.

    Args:
        data: A known task's name, such as ``hopper-medium-v2``; or the user's own data: a path
            (npz, HDF5, CSV, Parquet, a folder of episodes, a card), ``minari:ID``, a dict of
            arrays, a DataFrame, or an iterable of episodes or transitions.
        source: For a known task, where its transitions come from, see `load`.
        **facts: For a known task, the options of `load`. For the user's own, the fields of
            `card.Card`: name, columns, action_bounds, max_episode_steps, termination, reward_fn,
            env, reference_returns.

    Raises:
        UserError: Unknown task, or data that is not as it should be.
    """
    if isinstance(data, Dataset):
        return data
    if source is None and not (isinstance(data, str) and not looks_like_data(data)):
        return load_own(data, **facts)
    return load(data, source or "auto", **facts)


def looks_like_data(text: str) -> bool:
    """Whether a text is a path or an address rather than a task's name."""
    path = Path(text).expanduser()
    return (
        is_remote(text)
        or path.suffix.lower() in (*READERS, *CARDS)
        or len(path.parts) > 1
        or path.is_dir()
    )


@dataclass(frozen=True)
class Source:
    """Whose transitions: a benchmark's, or the user's own, in a file or in memory.

    Attributes:
        name: What `--data` names; `user.MEMORY` where only Python has them.
        task: What `--task` names: rows of a benchmark's task are that task's, whoever has them.
        dataset: The transitions, where they are loaded.
    """

    name: str
    task: str | None = None
    dataset: Dataset | None = None

    @cached_property
    def own(self) -> bool:
        """Whether it is a place that makes a task of the user's own."""
        from offlinerlkit_romi.envs.tasks import TASKS, canonical

        if self.name in SOURCES or not looks_like_data(self.name):
            return False
        return canonical(self.task or "") not in TASKS

    @cached_property
    def card(self) -> Card | None:
        """What is known of such a place; None for everything else.

        Raises:
            UserError: It is a card that cannot be read.
        """
        return card_of(self.name) if self.own else None

    def check(self) -> None:
        """Whether the task exists, where it is a benchmark's.

        Raises:
            UserError: It does not; the message names the nearest.
        """
        from offlinerlkit_romi.envs.tasks import get_task

        if self.dataset is None and self.name != MEMORY and not self.own:
            get_task(self.task or "")


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

    facts, tell = get_task(task), notify or (lambda line: None)
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
            notes = (f"auto: {origin.title}'s file is not available here ({error.cause})",)
            tell(
                f"{task}: {notes[0].removeprefix('auto: ')}; "
                f"using {transitions} transitions generated on this machine instead"
            )
    if source in ("auto", "generated"):
        path = generate(facts.name, transitions, seed, jobs=jobs, progress=progress)
        return read_dataset(path, facts, "generated", notes=notes)
    return _load_file(source, facts)


def _check_label(source: str, task: Task, origin: Origin) -> None:
    if source in LABELS and source != origin.label:
        raise UserError(
            f"{task.name} is no task of {source}: give {origin.label} for its own file, "
            "generated, or the path of a file"
        )


def _load_official(
    task: Task, origin: Origin, timeout: float, progress: bool, tell: Notify
) -> Dataset:
    archive = origin.archive
    path = archive.cached_path(task.name)
    if not path.exists():
        remote = archive.remote_of(task.name)
        size = "" if remote.size is None else f" ({remote.size / 1e6:.0f} MB)"
        tell(f"{path} is not there: trying {remote.url}{size}")
    path, sha256 = archive.fetch(task.name, timeout=timeout, progress=progress)
    return read_dataset(path, task, origin.label, sha256)


def _load_file(source: str, task: Task) -> Dataset:
    path = Path(source).expanduser()
    known = is_remote(source) or path.suffix.lower() in (*READERS, *CARDS) or path.exists()
    if not known and path.name == source:
        raise UserError(f"no data source {source!r}: give {', '.join(SOURCES)}, {KINDS}")
    return read_dataset(path, task, "file")


def read_dataset(
    path: Path,
    task: Task,
    source: str,
    sha256: str | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Read and check the rows of a benchmark's task; `notes` come before the file's own.

    Raises:
        UserError: See `read_file`.
    """
    origin = origin_of(task)
    # hashing takes as long as reading, and lets go of the interpreter meanwhile
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(lambda: sha256 or (file_digest(path) if _is_whole(path) else ""))
        rows = origin.refine(read_file(path, task), task)
        episodes = origin.episodes(rows)
    digest = hashing.result()
    return Dataset.of(
        rows,
        episodes,
        task=task.name,
        source=source,
        path=str(path),
        sha256=digest,
        env_version=_env_version(source, origin, rows.metadata),
        notes=(*notes, *_notes(source, task, rows.metadata, _known_as(digest))),
    )


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


def _notes(source: str, task: Task, metadata: dict[str, str], known_as: str | None) -> list[str]:
    origin, notes = origin_of(task), []
    if source == origin.label:
        notes.append(f"{origin.title}'s own file, {origin.archive.verified(task.name)}")
    elif source == "file":
        same = f"the bytes of {known_as}" if known_as else f"not one of {origin.title}'s files"
        notes.append(f"a file of the user's: {same}")
    if MIX in metadata:
        for part in json.loads(metadata[MIX]):
            made = f", {STAND_IN.format(origin.title)}" if part["generated"] else ""
            digest = part["sha256"] or "none: no file"
            notes.append(
                f"mixed of {part['rows']} rows of {part['source']} (sha256 {digest}){made}"
            )
    if "generated" in metadata:
        policies = json.loads(metadata["policies"])
        made_by = ", ".join(f"{name} ({count} rows)" for name, count in policies)
        notes += [STAND_IN.format(origin.title)]
        notes.append(f"collected by {made_by}, seed {metadata['seed']}")
        if "trajectories" in metadata:
            notes.append(f"{metadata['trajectories']} trajectories of the task's own file")
    return notes


def read_file(path: Path, task: Task) -> Rows:
    """Read a benchmark's rows by what a file holds: NeoRL's keys, D4RL's, or any other source's.

    Raises:
        UserError: Unreadable, or see `checks.fitted`.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        arrays = read_arrays(path, _needed)
        if neorl.is_neorls(arrays):
            return neorl.rows_by_rule(arrays, path, task)
        if {*REQUIRED} <= set(arrays) and _alike(arrays):
            return fitted(as_rows(arrays, str(path)), task)
    return fitted(read_source(card_of(str(path))), task)


def _needed(names: Sequence[str]) -> list[str]:
    """Of a file's arrays those that make transitions, and what it says of itself."""
    known = {*KNOWN, GOALS, *neorl.NAMES, "metadata"}
    return [name for name in names if name in known or name.startswith("metadata/")]


def read_source(card: Card) -> Rows:
    """The rows that a card names as they stand: what `convert` and `doctor` work on.

    NaN and infinity are read as well. Of a file with D4RL's or NeoRL's keys every array is kept,
    bit for bit.

    Raises:
        UserError: Unreadable, or columns are missing.
    """
    if is_remote(card.file):
        return _together(episodes_in(open_minari(card.file), card.file), card.file)
    path = Path(card.file)
    if path.is_dir() or path.suffix.lower() not in ARRAY_SUFFIXES:
        return _named_only(read_columns(path, card.columns, finite=False))
    arrays = read_arrays(path)
    if {*neorl.NAMES} <= set(arrays):
        arrays = neorl.as_d4rl(arrays, path)
    if card.columns.entries or not _alike(arrays):
        return _named_only(columns_of(arrays, card.columns, card.file, finite=False))
    return as_rows(arrays, card.file)


def _alike(arrays: Table) -> bool:
    """Whether each action has its own observation, both under D4RL's names."""
    counts = {arrays[key].shape[:1] if key in arrays else None for key in MATRICES[:2]}
    return len(counts) == 1 and None not in counts


def _named_only(rows: Rows) -> Rows:
    return replace(rows, notes=(*rows.notes, "what has no name in D4RL's format is not read"))


def _together(episodes: Sequence[Rows], place: str) -> Rows:
    """Episodes with all that they hold, as they stand."""
    columns: dict[str, list[Array]] = {}
    for episode in episodes:
        for key, values in episode.columns.items():
            columns.setdefault(key, []).append(values)
    return as_rows({key: np.concatenate(parts) for key, parts in columns.items()}, place)
