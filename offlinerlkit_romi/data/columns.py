"""Which column of a table is what, and from columns to the rows of D4RL's format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from offlinerlkit_romi.data.checks import check_finite
from offlinerlkit_romi.data.formats import Table
from offlinerlkit_romi.data.rows import (
    DONES,
    KNOWN,
    MATRICES,
    OTHER_NAMES,
    REQUIRED,
    Array,
    Bools,
    Rows,
    only_ends,
)
from offlinerlkit_romi.errors import UserError, nearest, shown

QUANTITIES = (*KNOWN, "episode")
NEVER = "none"


@dataclass(frozen=True)
class ColumnMap:
    """From a quantity to the columns that hold it.

    Attributes:
        entries: Quantity (a name in `QUANTITIES`) to a column, a pattern such as
            ``obs_*``, a list of both, or ``none``. A quantity that is not listed is the column of
            its own name (``terminations`` or ``dones`` for terminals, ``truncations`` for timeouts)
            or, for the matrices, the columns ``<name>_0``, ``<name>_1`` and so on.
            ``terminals: none`` says that no episode ends by itself; ``timeouts: none`` that none
            is cut.
    """

    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Any) -> ColumnMap:
        """Read a map as users write it.

        Raises:
            UserError: Not a map, an unknown quantity, or something other than names of columns.
        """
        if isinstance(columns, ColumnMap):
            return columns
        if not isinstance(columns, Mapping | None):
            raise UserError(f"columns is {shown(columns)}: give a map such as observations: [x, y]")
        entries = {}
        for key, value in (columns or {}).items():
            if key not in QUANTITIES:
                raise UserError(
                    f"columns: unknown quantity {key!r}: choose from {_some(QUANTITIES)}"
                )
            names = (NEVER,) if value is None or value is False else value
            names = (names,) if isinstance(names, str) else tuple(names) if _listed(names) else ()
            if not names or not all(isinstance(name, str) for name in names):
                raise UserError(f"columns: {key} is {shown(value)}: give a column's name or a list")
            entries[str(key)] = names
        return cls(entries)

    def declared_none(self, key: str) -> bool:
        """Whether the map says that there is no such thing."""
        return self.entries.get(key) == (NEVER,)

    def names(self, key: str, present: Sequence[str], place: str) -> list[str]:
        """The columns of one quantity; empty where there is none.

        Raises:
            UserError: A column that the map names, or a required one, is not in the table.
        """
        if self.declared_none(key) and key not in ("observations", "actions", "rewards"):
            return []
        if key in self.entries:
            return [name for entry in self.entries[key] for name in _expand(entry, present, place)]
        for name in (key, *OTHER_NAMES.get(key, ())):
            if name in present:
                return [name]
        numbered = _matches(f"{key}_*", present) if key in MATRICES else []
        if not numbered and key in REQUIRED:
            hint = " (terminals: none says that no episode ends by itself)"
            raise UserError(
                f"{place} lacks {key} (it holds: {_some(present)}): name its column in columns"
                + (hint if key == "terminals" else "")
            )
        return [name for name in numbered if name.removeprefix(f"{key}_").isdigit()]

    def pick(self, present: Sequence[str], place: str) -> list[str]:
        """Every column that is needed."""
        return [n for key in QUANTITIES for n in self.names(key, present, place)]

    def record(self) -> dict[str, list[str]]:
        """Plain values for a manifest."""
        return {key: list(names) for key, names in self.entries.items()}


def columns_of(table: Table, columns: ColumnMap, place: str, *, finite: bool = True) -> Rows:
    """Take the quantities out of a table; rows of an episode end up side by side.

    Args:
        table: Columns by name.
        columns: Which is what.
        place: What the table is, for messages.
        finite: Refuse NaN and infinity, which the doctor wants to see.

    Raises:
        UserError: A column is missing, holds no finite numbers, or has another length or shape.
    """
    found = {
        key: [np.asarray(table[name]) for name in columns.names(key, list(table), place)]
        for key in QUANTITIES
    }
    episode = _one("episode", found.pop("episode"), place)
    if episode is not None and episode.shape not in ((episode.size,), (episode.size, 1)):
        raise UserError(f"{place}: episode has shape {episode.shape}: give one entry per row")
    values = {key: _numbers(key, arrays, place) for key, arrays in found.items() if arrays}
    if finite:
        for key, array in values.items():
            check_finite(place, key, array)
    _check_actions_are_continuous(values["actions"], place)
    values = _split_last_observation(values, place)
    rows = len(values["actions"])
    for key, value in [*values.items(), *([] if episode is None else [("episode", episode)])]:
        if len(value) != rows:
            raise UserError(f"{place}: {key} has {len(value)} rows, actions {rows}: give as many")
    if values.get("next_observations", values["observations"]).shape != (
        shape := values["observations"].shape
    ):
        raise UserError(
            f"{place}: next_observations has shape {values['next_observations'].shape}, "
            f"observations {shape}: they must be alike"
        )
    flags = {k: _flags(k, values[k], place) for k in ("terminals", "timeouts") if k in values}
    flags.setdefault("terminals", np.zeros(rows, bool))
    if columns.declared_none("timeouts"):
        flags["timeouts"] = np.zeros(rows, bool)
    notes: tuple[str, ...] = ()
    if "terminals" not in columns.entries and columns.names("terminals", list(table), place) == [
        DONES
    ]:
        flags["terminals"], notes = only_ends(flags["terminals"], flags.get("timeouts"))
    values["rewards"] = _vector("rewards", values["rewards"], place)
    result = Rows(values | flags, place, notes=notes)
    return result if episode is None else _side_by_side(result, episode.reshape(-1), place)


def _side_by_side(rows: Rows, episode: Array, place: str) -> Rows:
    """Order rows by episode, the episodes as they first appear, and end each at its last row."""
    if episode.dtype.kind in "fc" and np.isnan(episode).any():
        row = int(np.flatnonzero(np.isnan(episode))[0])
        raise UserError(f"{place}: episode is missing in row {row}: every row needs one")
    ids = episode if episode.dtype.kind in "biuf" else episode.astype(str)
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    order = np.argsort(rank[inverse], kind="stable")
    ends = np.r_[np.diff(rank[inverse][order]) != 0, True]
    ordered = rows.take(order)
    ends &= ~ordered.terminals
    return ordered.with_columns(timeouts=ends if rows.timeouts is None else ends | ordered.timeouts)


def _split_last_observation(values: dict[str, Array], place: str) -> dict[str, Array]:
    """One observation more than actions: an episode with the state after its last action."""
    observations, rows = values["observations"], len(values["actions"])
    if "next_observations" in values or len(observations) != rows + 1:
        return values
    ends = [
        v.reshape(len(v), -1)[:-1]
        for k in ("terminals", "timeouts")
        if (v := values.get(k)) is not None
    ]
    if any(end.any() for end in ends):
        raise UserError(
            f"{place}: {rows + 1} observations for {rows} actions is one episode, but it ends "
            "before its last row: give one table per episode, or as many observations as actions"
        )
    return values | {"observations": observations[:-1], "next_observations": observations[1:]}


def _numbers(key: str, arrays: list[Array], place: str) -> Array:
    """One array of finite numbers: (n,) for scalars, (n, d) for matrices."""
    for array in arrays:
        if array.dtype.kind not in "biuf":
            what = "rows of different lengths or text" if array.dtype.kind == "O" else array.dtype
            raise UserError(f"{place}: {key} holds {what}, not numbers: give numbers")
        if array.ndim > 2:
            raise UserError(
                f"{place}: {key} has shape {array.shape}: images and other tensors are not "
                "supported, give one vector per row"
            )
        if array.ndim == 0:
            raise UserError(f"{place}: {key} is a single number: give one per row")
    if len({len(array) for array in arrays}) > 1:
        raise UserError(
            f"{place}: the columns of {key} differ in length: give as many rows in each"
        )
    if key not in MATRICES:
        return _vector(key, _one(key, arrays, place), place)
    if not all(array.size for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise UserError(f"{place}: {key} has shape {shapes}: there are no transitions")
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def _vector(key: str, values: Any, place: str) -> Array:
    if values.ndim == 2 and values.shape[1] != 1:
        raise UserError(f"{place}: {key} has shape {values.shape}: give one number per row")
    vector: Array = values.reshape(len(values))
    return vector


def _check_actions_are_continuous(actions: Array, place: str) -> None:
    if actions.dtype.kind != "f":
        raise UserError(
            f"{place}: actions are {actions.dtype}: discrete actions are not supported; if they "
            "are numbers on a scale, convert them to floats"
        )


def _flags(key: str, values: Array, place: str) -> Bools:
    if values.dtype == bool:
        return values
    strange = np.flatnonzero((values != 0) & (values != 1))
    if len(strange):
        raise UserError(
            f"{place}: {key} is {values[strange[0]]:g} in row {strange[0]}: write 0 or 1"
        )
    flags: Bools = values.astype(bool)
    return flags


def _one(key: str, arrays: list[Array], place: str) -> Any:
    if len(arrays) > 1:
        raise UserError(f"{place}: {key} is made of {len(arrays)} columns: name one")
    return arrays[0] if arrays else None


def _expand(entry: str, present: Sequence[str], place: str) -> list[str]:
    found = _matches(entry, present) if "*" in entry and entry not in present else [entry]
    if not found or found[0] not in present:
        near = nearest(entry, present, count=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"{place} has no column {entry!r}: {guess}it holds {_some(present)}")
    return found


def _matches(pattern: str, present: Sequence[str]) -> list[str]:
    """Names that fit, by their number where all differ by one, else in the table's order."""
    found = [name for name in present if fnmatchcase(name, pattern)]
    numbers = [re.search(r"(\d+)\D*$", name) for name in found]
    if all(numbers):
        return sorted(found, key=lambda name: int(re.search(r"(\d+)\D*$", name)[1]))  # type: ignore[index]
    return found


def _listed(value: Any) -> bool:
    return isinstance(value, Iterable)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
