"""`load_own`: the user's own transitions, whatever they are stored in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.card import SUFFIXES, Card, is_remote, read_card
from offlinerlkit_romi.data.checks import bounds_in_words, guessed_bounds, outside
from offlinerlkit_romi.data.columns import ColumnMap, Columns, columns_of, joined
from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.hdf5 import Rows, episodes_of, time_limits, transitions_of
from offlinerlkit_romi.data.own_task import make_task, rule_notes
from offlinerlkit_romi.data.tables import READERS, Table, frame_table, read_table
from offlinerlkit_romi.errors import UserError

MEMORY = "arrays"
STEP_KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


def load_own(data: Any, *, guess: bool = False, **facts: Any) -> Dataset:
    """Load transitions of the user's and make a task of what is known about them.

    Args:
        data: The path of an npz, HDF5, CSV or Parquet file, of a folder with one such file per
            episode, or of a card (.yaml); ``minari:ID``; a dict of arrays; a pandas DataFrame; an
            iterable of episodes (dicts of arrays) or of transitions (dicts, or tuples of
            observation, action, reward, next observation, terminal and perhaps timeout).
        guess: Take action bounds from the data where nobody says them, to look at the data; a
            policy must not be trained on a guess.
        **facts: The fields of `card.Card`, over those of a card file.

    Returns:
        float32 arrays with actions in [-1, 1], `info.source` "file", "arrays" or "minari", and
        `task`, which knows the user's units.

    Raises:
        UserError: The data or a fact is not as it should be; one line says what and where.
    """
    card = (card_of(data) if isinstance(data, str | Path) else Card()).override(facts)
    if is_remote(card.file):
        from offlinerlkit_romi.data.minari_source import load_minari

        return load_minari(card)
    if card.file:
        rows, source = read_columns(Path(card.file), card.columns), "file"
    else:
        rows, source = _from_memory(data, card.columns), MEMORY
    card = card.override({"name": card.name or default_name(card.file)})
    notes: tuple[str, ...] = ()
    if guess:
        card, notes = with_bounds(card, rows.actions)
    return finish(rows, card, source, notes=notes)


def card_of(source: str | Path) -> Card:
    """What is known of a source that is a path or an address.

    Raises:
        UserError: It is a card that cannot be read.
    """
    path = Path(source).expanduser()
    return read_card(path) if path.suffix.lower() in SUFFIXES else Card(file=_full(str(source)))


def with_bounds(card: Card, actions: Any) -> tuple[Card, tuple[str, ...]]:
    """The card with bounds that the actions (n, A) suggest, where nobody says them; and a note."""
    if card.action_bounds is not None or card.env:
        return card, ()
    bounds = guessed_bounds(actions)
    if {*bounds[0], *bounds[1]} <= {-1.0, 1.0}:
        return card, ()
    note = f"action bounds guessed from the data: train with {bounds_in_words(bounds)} if so"
    return card.override({"action_bounds": bounds}), (note,)


def default_name(source: str) -> str:
    """The name of a task of the user's where none is told: its file's."""
    if is_remote(source):
        return source.replace(":", "-").replace("/", "-")
    return re.sub(r"[^\w.-]+", "-", Path(source).stem).strip(".-") or "my-task"


def finish(
    columns: Columns,
    card: Card,
    source: str,
    *,
    env_version: str = "",
    notes: tuple[str, ...] = (),
) -> Dataset:
    """From rows and their card to a data set with its task.

    Raises:
        UserError: The rows do not fit the card, or no row has a next state.
    """
    place = card.file or "the data"
    if not len(columns):
        raise UserError(f"{place} holds no transitions: give at least one")
    widths = columns.observations.shape[1], columns.actions.shape[1]
    task = make_task(card, *widths, place)
    rows = Rows(
        observations=columns.observations.astype(np.float32),
        actions=_scaled_actions(columns, task, place),
        rewards=columns.rewards.astype(np.float32),
        terminals=columns.terminals,
        timeouts=_timeouts(columns, card, place),
        next_observations=None
        if columns.next_observations is None
        else columns.next_observations.astype(np.float32),
        metadata={},
    )
    found = transitions_of(rows)
    if not len(found.observations):
        raise UserError(
            f"{place}: no row has a next state of its own episode: give longer episodes"
        )
    episodes = episodes_of(rows.rewards, rows.terminals, rows.timeouts)
    info = DataInfo(
        task=task.name,
        source=source,
        path=card.file,
        sha256="",
        env_version=env_version or task.env_id or "unknown (no simulator was named)",
        episodes=len(episodes.returns),
        behaviour_return=float(np.mean(episodes.returns)) if len(episodes.returns) else np.nan,
        notes=(*notes, *columns.notes, *_notes(rows, len(found.observations), task)),
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
        task,
        card,
    )
    dataset = dataset.with_info(sha256=digest_of(dataset)).with_notes(*rule_notes(dataset, task))
    reason = dataset.untold()
    if not reason:
        return dataset
    unknown = dataset.with_info(episodes=0, behaviour_return=float("nan")).with_notes(reason)
    return replace(unknown, complete=None)


def digest_of(dataset: Dataset) -> str:
    """SHA-256 of the transitions, whatever they were stored in."""
    digest = hashlib.sha256()
    for values in dataset.as_dict().values():
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _full(source: str) -> str:
    return source if is_remote(source) else str(Path(source).expanduser().absolute())


def read_columns(path: Path, columns: ColumnMap, *, finite: bool = True) -> Columns:
    """The rows of a file, or of a folder of episodes; see `columns.columns_of`.

    Raises:
        UserError: They cannot be read.
    """
    if not path.is_dir():
        return _read_file(path, columns, finite)
    files = sorted(
        (f for f in path.iterdir() if f.suffix.lower() in READERS and not f.name.startswith(".")),
        key=lambda f: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", f.name)],
    )
    if not files:
        raise UserError(f"the folder {path} holds no episodes: put one {_formats()} per episode")
    return joined([_read_file(file, columns, finite) for file in files], str(path))


def _read_file(path: Path, columns: ColumnMap, finite: bool) -> Columns:
    place = str(path)
    table = read_table(path, lambda present: columns.pick(present, place))
    return columns_of(table, columns, place, finite=finite)


def _from_memory(data: Any, columns: ColumnMap) -> Columns:
    place = "the data"
    if isinstance(data, Mapping):
        return columns_of(_arrays(data, columns, place), columns, place)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        table = frame_table(data, lambda present: columns.pick(present, place))
        return columns_of(table, columns, place)
    if not isinstance(data, Iterable) or isinstance(data, bytes | np.ndarray):
        raise UserError(
            f"cannot load a {type(data).__name__}: give a path, a dict of arrays, a DataFrame, "
            "or an iterable of episodes or transitions"
        )
    items = iter(data)
    first = next(items, None)
    if first is None:
        raise UserError("the iterable holds no episodes: give at least one")
    items = chain([first], items)
    if _is_step(first, columns):
        return columns_of(_stacked(items), ColumnMap(), place)
    return joined([_episode(item, i, columns) for i, item in enumerate(items)], place)


def _is_step(item: Any, columns: ColumnMap) -> bool:
    """Whether an item is one transition: a tuple, or a dict whose reward is a single number."""
    if not isinstance(item, Mapping):
        return True
    place = "the first item"
    reward = item[columns.names("rewards", list(item), place)[0]]
    return np.ndim(reward) == 0


def _episode(item: Any, index: int, columns: ColumnMap) -> Columns:
    place = f"episode {index}"
    if not isinstance(item, Mapping):
        raise UserError(f"{place} is a {type(item).__name__}: give a dict of arrays")
    return columns_of(_arrays(item, columns, place), columns, place)


def _arrays(data: Mapping[str, Any], columns: ColumnMap, place: str) -> Table:
    """The arrays that are needed; lists become arrays."""
    table = {}
    for name in columns.pick([str(name) for name in data], place):
        try:
            table[name] = np.asarray(data[name])
        except ValueError as error:
            raise UserError(
                f"{place}: {name} holds rows of different lengths: give as many numbers in each"
            ) from error
    return table


def _stacked(items: Iterable[Any]) -> Table:
    """Transitions as the columns of one table.

    Raises:
        UserError: They are not all alike.
    """
    columns: dict[str, list[Any]] = {}
    for index, item in enumerate(items):
        values = dict(item) if isinstance(item, Mapping) else _named(item, index)
        if columns and values.keys() != columns.keys():
            raise UserError(
                f"transition {index} has {', '.join(map(str, values))}, "
                f"the first one {', '.join(columns)}: give the same in each"
            )
        for name, value in values.items():
            columns.setdefault(str(name), []).append(value)
    return _arrays(columns, ColumnMap(), "the data")


def _named(item: Any, index: int) -> dict[str, Any]:
    if not isinstance(item, tuple | list) or len(item) not in (5, 6):
        raise UserError(
            f"transition {index} is a {type(item).__name__}: give tuples of observation, action, "
            "reward, next observation, terminal and perhaps timeout, or dicts"
        )
    return dict(zip(STEP_KEYS, item, strict=False))


def _timeouts(columns: Columns, card: Card, place: str) -> Any:
    """Where episodes are cut.

    Raises:
        UserError: It cannot be told, and next states are to be taken from next rows.
    """
    if columns.timeouts is not None:
        return columns.timeouts
    if card.max_episode_steps:
        return time_limits(columns.terminals, card.max_episode_steps)
    if columns.next_observations is not None:
        return np.zeros(len(columns), bool)
    raise UserError(
        f"{place} does not say where episodes are cut: give timeouts, episode, next_observations "
        "or max_episode_steps (timeouts: none says that only terminals end them)"
    )


def _scaled_actions(columns: Columns, task: Any, place: str) -> Any:
    low, high = task.bounds
    wrong = outside(columns.actions, (low, high))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        guess = bounds_in_words(guessed_bounds(columns.actions))
        shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in list(zip(low, high, strict=True))[:4])
        raise UserError(
            f"{place}: {int(wrong.sum())} rows have actions outside {shown}, the first is row "
            f"{row} with {np.round(columns.actions[row], 6).tolist()}: give their bounds "
            f"(the data suggest {guess})"
        )
    if not task.scales_actions:
        return columns.actions.astype(np.float32)
    return task.to_policy(columns.actions).astype(np.float32)


def _notes(rows: Rows, used: int, task: Any) -> list[str]:
    notes = []
    if rows.next_observations is None:
        notes.append("no stored next observations: taken from the next row of the same episode")
    dropped = len(rows.rewards) - used
    if dropped:
        notes.append(f"{dropped} last rows of cut episodes left out: they have no next observation")
    if task.scales_actions:
        notes.append("actions are scaled from the user's bounds to [-1, 1] and back")
    return notes


def _formats() -> str:
    return ", ".join(READERS)
