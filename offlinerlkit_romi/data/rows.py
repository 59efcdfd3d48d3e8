"""One table of steps: what every source of data is read into, and what is told from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

Array = NDArray[Any]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Bounds = tuple[tuple[float, ...], tuple[float, ...]]

MATRICES = ("observations", "actions", "next_observations")
REQUIRED = ("observations", "actions", "rewards", "terminals")
FLAGS = ("terminals", "timeouts")
KNOWN = (*REQUIRED, "next_observations", "timeouts")
GOALS = "infos/goal"
DONES = "dones"
MIX = "mix"  # below metadata: the parts of a mixed file, as JSON
# what others call them; `dones` says less than the rest, see `only_ends`
OTHER_NAMES = {"terminals": ("terminations", DONES), "timeouts": ("truncations",)}
BLOCK_ROWS = 1 << 14  # keeps temporaries in cache


@dataclass(frozen=True)
class Episodes:
    """Undiscounted returns and lengths of the complete episodes."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Steps in the order they were written, in their own types and shapes.

    Attributes:
        columns: Arrays with one entry per row, by D4RL's keys such as ``observations``,
            ``infos/qpos``. Without ``next_observations`` the next row's observation serves.
        source: Where they were read, for messages.
        extras: Everything else the source holds, such as ``metadata/seed``.
        notes: What a reader must know of the rows.
        task: Whose data these claim to be, if known.
        bounds: The actions' box, -1 and 1 for all where it is None.
        continues: (n,) where the next row's state follows this one's, for rows without
            ``next_observations``; None means wherever no flag ends an episode.
        goal: Position (2,) that the rewards are about, where it is known.
    """

    columns: dict[str, Array]
    source: str = "the data"
    extras: dict[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    task: Task | None = None
    bounds: Bounds | None = None
    continues: Bools | None = None
    goal: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.columns["observations"])

    @property
    def observations(self) -> Array:
        """(n, S)."""
        return self.columns["observations"]

    @property
    def actions(self) -> Array:
        """(n, A)."""
        return self.columns["actions"]

    @property
    def next_observations(self) -> Array | None:
        """(n, S), None where none are stored."""
        return self.columns.get("next_observations")

    @property
    def rewards(self) -> Array:
        """(n,)."""
        return self.columns["rewards"].reshape(-1)

    @cached_property
    def terminals(self) -> Bools:
        """(n,)."""
        return self._flags("terminals")

    @cached_property
    def timeouts(self) -> Bools | None:
        """(n,), None where nobody says."""
        return self._flags("timeouts") if "timeouts" in self.columns else None

    def _flags(self, key: str) -> Bools:
        return self.columns[key].reshape(-1).astype(bool, copy=False)

    @property
    def metadata(self) -> dict[str, str]:
        """The texts among ``metadata/...``, by their names."""
        return {
            key.removeprefix("metadata/"): bytes(value[()]).decode(errors="replace")
            for key, value in self.extras.items()
            if key.startswith("metadata/") and value.shape == () and value.dtype.kind == "S"
        }

    def with_columns(self, **columns: Array | None) -> Rows:
        """The same rows with some columns replaced; None removes one."""
        merged = {**self.columns, **columns}
        return replace(self, columns={k: v for k, v in merged.items() if v is not None})

    def known(self) -> Rows:
        """The same rows with nothing but what every source has a name for."""
        return replace(self, columns={k: v for k, v in self.columns.items() if k in KNOWN})

    def take(self, kept: Array) -> Rows:
        """The rows of a mask or of indices."""
        return replace(self, columns={key: value[kept] for key, value in self.columns.items()})

    @property
    def box(self) -> Bounds:
        """Lowest and highest action, one number per dimension."""
        width = self.actions.shape[1]
        return self.bounds or ((-1.0,) * width, (1.0,) * width)

    @cached_property
    def ends(self) -> Bools:
        """(n,) where an episode ends, as far as the flags say."""
        if self.timeouts is not None:
            return self.terminals | self.timeouts
        limit = 0 if self.task is None else self.task.max_episode_steps
        if self.next_observations is None and limit:
            return self.terminals | time_limits(self.terminals, limit)
        return self.terminals

    @cached_property
    def breaks(self) -> Bools:
        """(n,) where the next row does not start in this row's stored next state, bit for bit."""
        result = np.zeros(len(self), bool)
        if self.next_observations is None:
            return result
        for at in range(0, len(self) - 1, BLOCK_ROWS):
            stop = min(at + BLOCK_ROWS, len(self) - 1)
            differs = self.next_observations[at:stop] != self.observations[at + 1 : stop + 1]
            result[at:stop] = differs.any(axis=1)
        return result

    @cached_property
    def ordered(self) -> bool:
        """Whether rows follow each other in time, so that episodes can be told."""
        if self.next_observations is None:
            return True
        return int((self.breaks & ~self.ends).sum()) <= 0.5 * len(self)

    @cached_property
    def steps(self) -> Array:
        """(n,) how many steps its episode has taken after each row, by flags and breaks."""
        return _steps(self.ends | self.breaks) + 1

    def following(self, rows: Array) -> Array:
        """The next state of each of `rows` (k, S): stored, or the observation of the next row."""
        if self.next_observations is not None:
            return self.next_observations[rows]
        return self.observations[rows + 1]

    def torn(self, bad: Bools) -> Array:
        """Rows that no longer lead to the next one, and that no flag ends, once `bad` are gone."""
        kept = np.flatnonzero(~bad)
        before, after = kept[:-1], kept[1:]
        gap = after > before + 1
        before, after = before[gap], after[gap]
        if self.next_observations is not None:
            goes_on = (self.next_observations[before] == self.observations[after]).all(axis=1)
        else:  # only a copy of the row itself can go without a trace
            goes_on = after == before + 2
            for values in (self.observations, self.actions):
                goes_on &= (values[before] == values[before + 1]).all(axis=1)
        rows: Array = before[~goes_on & ~self.ends[before]]
        return rows

    def said_timeouts(self) -> Bools:
        """`timeouts`, or where they must be if nobody says."""
        if self.timeouts is not None:
            return self.timeouts
        result = (self.ends | self.breaks) & ~self.terminals
        result[-1] = False
        return result

    def flag(self, **changes: tuple[Array, bool]) -> Rows:
        """The same rows with flags set in some of them; types and shapes of columns stay."""
        columns = {}
        for key, (rows, value) in changes.items():
            # whoever writes a new column of timeouts says where every episode was cut
            column = self.columns[key] if key in self.columns else self.said_timeouts()
            columns[key] = column.copy()
            columns[key].reshape(-1)[rows] = value
        return self.with_columns(**columns)

    def pairs(self) -> tuple[Array, Bools]:
        """Where no next states are stored: the rows that have one (k,), and whose it is (k,).

        True stands for the next row's observation, which serves where it continues the episode.
        False stands for terminal rows, which keep their own observation for want of another.
        """
        continues = ~self.ends if self.continues is None else self.continues.copy()
        continues[-1:] = False
        kept = np.flatnonzero(continues | self.terminals)
        return kept, continues[kept]

    def paired(self) -> tuple[Rows, Bools | None]:
        """Rows with next states of the same episode, and which of these are real.

        With stored ones every row is there, uncopied, and the mask is None. Without them, see
        `pairs`: other rows have no next state and are left out.
        """
        if self.next_observations is not None:
            return self, None
        kept, real = self.pairs()
        return self.take(kept).with_columns(next_observations=self.observations[kept + real]), real

    def episodes(self) -> Episodes:
        """Returns and lengths of the complete episodes."""
        return episodes_of(self.rewards, self.terminals, self.said_timeouts())


def as_rows(arrays: Mapping[str, Array], source: str) -> Rows:
    """Tell columns from extras, and give flags the names they have in D4RL's format.

    Raises:
        UserError: A column every data set needs is missing, or columns differ in length.
    """
    arrays, notes = _with_known_names(arrays)
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise UserError(
            f"{source} lacks {', '.join(missing)} (it holds: {', '.join(sorted(arrays)) or '-'}): "
            f"name what holds them under columns in a card, or give {', '.join(REQUIRED)}"
        )
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    if rows == 0:
        raise UserError(f"{source} holds no transitions: give at least one")
    columns = {}
    for key, value in arrays.items():
        if value.shape[:1] == (rows,) and not key.startswith("metadata/"):
            columns[key] = value
        elif key in KNOWN:
            raise UserError(
                f"{source}: {key} has shape {value.shape}, observations have {rows} rows: "
                "write the file again"
            )
    extras = {key: value for key, value in arrays.items() if key not in columns}
    return Rows(columns, source, extras, notes)


def _with_known_names(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    # objects are of no type that another format has
    known = {key: value for key, value in arrays.items() if value.dtype.kind not in "OV"}
    notes: tuple[str, ...] = ()
    for key, others in OTHER_NAMES.items():
        name = next((n for n in (key, *others) if n in known), key)
        if name != key:
            known[key] = known.pop(name)
        if name == DONES:
            timeouts = [known[n] for n in ("timeouts", *OTHER_NAMES["timeouts"]) if n in known]
            flags = [x.reshape(-1).astype(bool) for x in (known[key], *timeouts)]
            if len({len(x) for x in flags}) == 1:
                known[key], notes = only_ends(flags[0], flags[1] if timeouts else None)
    return known, notes


def only_ends(dones: Bools, timeouts: Bools | None) -> tuple[Bools, tuple[str, ...]]:
    """Terminals from `dones`, which many set where time ran out as well; and what to know of it."""
    if timeouts is not None:
        return dones & ~timeouts, ("terminals are the dones that are no time limits",)
    return dones, (
        "dones are taken for terminals: where they also mean that time ran out, give timeouts or "
        "truncations beside them",
    )


def joined(parts: Sequence[Rows], place: str) -> Rows:
    """Episodes one behind the other, each ended by its last row.

    Raises:
        UserError: Their shapes differ, or some have next observations and some have not.
    """
    widths = {(p.observations.shape[1], p.actions.shape[1]) for p in parts}
    if len(widths) > 1:
        raise UserError(f"{place}: episodes of different widths {sorted(widths)}: give one task's")
    if len({part.next_observations is not None for part in parts}) > 1:
        raise UserError(
            f"{place}: some episodes have next observations and some have not: give all of one kind"
        )
    parts = [part.with_columns(timeouts=_ended(part)) for part in parts]
    columns = {k: np.concatenate([p.columns[k] for p in parts]) for k in parts[0].columns}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Rows(columns, place, notes=notes)


def _ended(part: Rows) -> Bools:
    """The timeouts of one episode: its last row is one unless it is a terminal."""
    timeouts = np.zeros(len(part), bool) if part.timeouts is None else part.timeouts.copy()
    timeouts[-1:] |= ~part.terminals[-1:]
    return timeouts


def time_limits(terminals: Bools, limit: int) -> Bools:
    """Where episodes reach `limit` steps, for files that do not say: (n,) -> (n,)."""
    reached: Bools = _steps(terminals) % limit == limit - 1
    return reached & ~terminals


def _steps(ends: Bools) -> Array:
    """(n,) rows since the last end."""
    row = np.arange(len(ends))
    return row - np.maximum.accumulate(np.where(np.r_[True, ends[:-1]], row, 0))


def episodes_of(rewards: Array, terminals: Bools, timeouts: Bools) -> Episodes:
    """Complete episodes: those a terminal or a time limit ends; an unfinished tail is left out."""
    ends = np.flatnonzero(terminals | timeouts)
    starts = np.r_[0, ends[:-1] + 1][: len(ends)]
    if not len(ends):
        return Episodes(np.zeros(0), np.zeros(0, dtype=np.int64))
    closed = rewards[: ends[-1] + 1].astype(np.float64)
    return Episodes(np.add.reduceat(closed, starts), ends - starts + 1)
