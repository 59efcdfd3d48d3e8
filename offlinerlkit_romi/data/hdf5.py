"""Read D4RL's HDF5 format: float32 arrays, checked, with true next states only."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.checks import check_actions, check_finite, check_shapes
from offlinerlkit_romi.data.chunks import read_float32
from offlinerlkit_romi.data.dataset import Bools, Floats
from offlinerlkit_romi.data.folders import again
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

GOALS = "infos/goal"
REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts", GOALS)


@dataclass(frozen=True)
class Rows:
    """The rows of a file as they stand there; rewards, terminals and timeouts are (n,).

    Attributes:
        continues: (n,) where the next row's state follows this one's, for files without
            `next_observations`; None means wherever no terminal and no time limit stands.
        goals: (n, 2) positions the collector was sent to, for files that tell.
        goal: Position (2,) that the rewards are about, where it is known.
        notes: What a reader must know of these rows.
    """

    observations: Floats
    actions: Floats
    rewards: Floats
    terminals: Bools
    timeouts: Bools
    next_observations: Floats | None
    metadata: dict[str, str]
    continues: Bools | None = None
    goals: Floats | None = None
    goal: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Episodes:
    """Undiscounted returns and lengths of the complete episodes."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


def read_rows(path: Path, task: "Task") -> Rows:
    """Read and check one file.

    Raises:
        UserError: No such file, not HDF5, truncated, a missing key, a wrong shape, no rows, NaN or
            infinity, or actions outside [-1, 1]. The message names the file and the first row.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"no data file {path}: give the path of a D4RL-format HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            check_shapes(path, {key: file[key].shape for key in _present(path, file)}, task)
            arrays = {key: _read(file[key], key) for key in _present(path, file)}
            metadata = _metadata(file)
    # what h5py raises depends on where the bytes stop making sense
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise UserError(
            f"cannot read {path} as HDF5 (truncated, or another format): {again(path)}"
        ) from error
    for key, value in arrays.items():
        if value.dtype != np.bool_:
            check_finite(path, key, value)
    check_actions(path, arrays["actions"])
    if "timeouts" not in arrays:
        arrays["timeouts"] = time_limits(arrays["terminals"], task.max_episode_steps)
    return Rows(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminals=arrays["terminals"],
        timeouts=arrays["timeouts"],
        next_observations=arrays.get("next_observations"),
        goals=arrays.get(GOALS),
        metadata=metadata,
    )


def _present(path: Path, file: Any) -> list[str]:
    missing = [key for key in REQUIRED if key not in file]
    if missing:
        found = ", ".join(sorted(file)) or "nothing"
        raise UserError(
            f"{path} lacks {', '.join(missing)} (it holds: {found}): "
            "a D4RL-format file needs observations, actions, rewards and terminals"
        )
    keys = [key for key in (*REQUIRED, *OPTIONAL) if key in file]
    for key in keys:
        _check_own(path, file, key)
    return keys


def _check_own(path: Path, file: Any, key: str) -> None:
    """An array of numbers that lies in this file: HDF5 can point into any other."""
    import h5py

    array = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
        raise UserError(f"{path}: {key} is no array of its own: write a plain array there")
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: {key} holds {array.dtype}, not numbers: write floats there")


def _read(dataset: Any, key: str) -> NDArray[Any]:
    if key in ("terminals", "timeouts"):  # some files store them as floats, some as (n, 1)
        return np.asarray(dataset[()]).reshape(-1).astype(bool)
    values = read_float32(dataset)
    return values.reshape(-1) if key == "rewards" else values


def _metadata(file: Any) -> dict[str, str]:
    """The text entries of the file's metadata group."""
    group = file.get("metadata", {})
    values = {key: group[key][()] for key in group if getattr(group[key], "shape", None) == ()}
    return {key: v.decode(errors="replace") for key, v in values.items() if isinstance(v, bytes)}


def time_limits(terminals: Bools, limit: int) -> Bools:
    """Where episodes reach `limit` steps, for files that do not say: (n,) -> (n,)."""
    row = np.arange(len(terminals))
    # first row of the stretch since the last terminal, for every row
    start = np.maximum.accumulate(np.where(np.r_[True, terminals[:-1]], row, 0))
    reached: Bools = (row - start) % limit == limit - 1
    return reached & ~terminals


def episodes_of(rewards: Floats, terminals: Bools, timeouts: Bools) -> Episodes:
    """Complete episodes: those a terminal or a time limit ends; an unfinished tail is left out."""
    ends = np.flatnonzero(terminals | timeouts)
    starts = np.r_[0, ends[:-1] + 1][: len(ends)]
    if not len(ends):
        return Episodes(np.zeros(0), np.zeros(0, dtype=np.int64))
    closed = rewards[: ends[-1] + 1].astype(np.float64)
    return Episodes(np.add.reduceat(closed, starts), ends - starts + 1)


@dataclass(frozen=True)
class Transitions:
    """Rows with a usable next state; see `Dataset` for the meaning of `model_rows`."""

    observations: Floats
    actions: Floats
    next_observations: Floats
    rewards: Floats
    terminals: Bools
    model_rows: Bools | None


def transitions_of(rows: Rows) -> Transitions:
    """Pair states with next states of the same episode, without copying where none is missing.

    With stored next observations every row is a transition. Without them, the next row's
    observation serves where it continues this one's episode. Other rows have none and are left
    out, except terminal ones: these stay, with their own observation as a stand-in that
    `model_rows` marks.
    """
    if rows.next_observations is not None:
        return Transitions(
            rows.observations,
            rows.actions,
            rows.next_observations,
            rows.rewards[:, None],
            rows.terminals[:, None],
            None,
        )
    given = rows.continues
    continues = ~(rows.timeouts | rows.terminals) if given is None else given.copy()
    continues[-1] = False
    keep = continues | rows.terminals
    following = np.flatnonzero(keep)
    following += continues[following]
    return Transitions(
        rows.observations[keep],
        rows.actions[keep],
        rows.observations[following],
        rows.rewards[keep, None],
        rows.terminals[keep, None],
        continues[keep],
    )
