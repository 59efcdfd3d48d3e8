"""NeoRL's own files (polixir): read without polixir's package.

Format (polixir/NeoRL @ a4b6c57, README and neorl/utils.py): an `.npz` with `obs`, `next_obs`,
`action`, `reward`, `done` and `index`, the row after each trajectory's last one, stored as float32.
polixir's README calls `index` the beginnings and its loader puts a 0 in front; both are read.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offlinerlkit_romi.data.checks import again, check_numbers, fitted
from offlinerlkit_romi.data.formats import Table, damaged
from offlinerlkit_romi.data.rows import Array, Bools, Rows, as_rows
from offlinerlkit_romi.envs.tasks import MAX_EPISODE_STEPS
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

# polixir's names beside those of `Rows`
KEYS = {
    "obs": "observations",
    "next_obs": "next_observations",
    "action": "actions",
    "reward": "rewards",
    "done": "terminals",
}
NAMES = (*KEYS, "index")


def is_neorls(names: Iterable[str]) -> bool:
    """Whether a file with these names claims to be in NeoRL's format."""
    return {"obs", "action"} <= set(names)


def as_d4rl(arrays: Table, path: Path) -> Table:
    """NeoRL's arrays under D4RL's keys: `done` is also set where the time limit struck.

    Raises:
        UserError: An array is missing, or the index fits no trajectories.
    """
    found, ends = _renamed(arrays, path)
    last = np.flatnonzero(ends)
    cut = last[np.diff(np.r_[-1, last]) >= MAX_EPISODE_STEPS]
    found["terminals"] = found["terminals"].reshape(-1) != 0
    found["terminals"][cut] = False
    return found | {"timeouts": ends & ~found["terminals"]}


def rows_by_rule(arrays: Table, path: Path, task: "Task") -> Rows:
    """NeoRL's rows with the task's own rule on the next state as terminals.

    A trajectory's last row that is no terminal is a time limit.

    Raises:
        UserError: See `as_d4rl` and `fitted`.
    """
    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

    found, ends = _renamed(arrays, path)
    rows = fitted(as_rows(found, str(path)), task)
    rule = get_termination_fn(task)
    ended = rule(rows.observations, rows.actions, rows.next_observations).reshape(-1)
    unlike = int((rows.terminals != (ended | ends)).sum())
    notes = [f"{int(ends.sum())} trajectories; terminals are the task's rule on the next state"]
    if unlike:
        notes.append(f"{unlike} rows say done where the rule and the trajectories' ends do not")
    rows = rows.with_columns(terminals=ended, timeouts=ends & ~ended)
    return replace(rows, notes=tuple(notes))


def _renamed(arrays: Table, path: Path) -> tuple[Table, Bools]:
    """The arrays under D4RL's keys, and which rows end a trajectory (n,)."""
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(
            f"{path} lacks {missing[0]} (it holds: {found}): "
            f"a NeoRL-format file needs {', '.join(KEYS)} and index"
        )
    for name in NAMES:
        check_numbers(str(path), name, arrays[name])
    try:
        metadata = dict(json.loads(str(arrays["metadata"]))) if "metadata" in arrays else {}
    except (ValueError, TypeError) as error:
        raise damaged(path, "npz", error) from error
    texts = {f"metadata/{k}": np.asarray(np.bytes_(str(v).encode())) for k, v in metadata.items()}
    ends = _ends_of(path, arrays["index"].reshape(-1), arrays["done"].size)
    return {name: arrays[key] for key, name in KEYS.items()} | texts, ends


def _ends_of(path: Path, index: Array, rows: int) -> Bools:
    borders = index.astype(np.int64)
    fits = len(borders) and (borders == index).all() and (np.diff(borders) > 0).all()
    if not fits or borders[0] < 0 or borders[-1] > rows:
        raise UserError(f"{path}: index is no rising list of rows up to {rows}: {again(path)}")
    ends = np.zeros(rows, dtype=bool)
    ends[borders[borders > 0] - 1] = True
    if borders[0] == 0:  # beginnings: the last trajectory ends with the file
        ends[-1] = True
    return ends
