"""The rows of the user's own data, wherever they are: a file, a folder of episodes, memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.columns import ColumnMap, columns_of
from offlinerlkit_romi.data.formats import READERS, Table, frame_table, read_arrays
from offlinerlkit_romi.data.rows import Rows, joined
from offlinerlkit_romi.errors import UserError

STEP_KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


def read_columns(path: Path, columns: ColumnMap, *, finite: bool = True) -> Rows:
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
        kinds = ", ".join(READERS)
        raise UserError(f"the folder {path} holds no episodes: put one {kinds} per episode")
    return joined([_read_file(file, columns, finite) for file in files], str(path))


def _read_file(path: Path, columns: ColumnMap, finite: bool) -> Rows:
    place = str(path)
    table = read_arrays(path, lambda present: columns.pick(present, place))
    return columns_of(table, columns, place, finite=finite)


def rows_in_memory(data: Any, columns: ColumnMap) -> Rows:
    """The rows of a dict of arrays, a DataFrame, or an iterable of episodes or transitions.

    Raises:
        UserError: They are none of these, or not alike.
    """
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


def _episode(item: Any, index: int, columns: ColumnMap) -> Rows:
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
