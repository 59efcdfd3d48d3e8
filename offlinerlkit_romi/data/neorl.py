"""NeoRL's own files (polixir): found, downloaded and read without polixir's package.

Format (polixir/NeoRL @ a4b6c57, README and neorl/utils.py): an `.npz` with `obs`, `next_obs`,
`action`, `reward`, `done` and `index`, the row after each trajectory's last one, stored as float32.
polixir's README calls `index` the beginnings and its loader puts a 0 in front; both are read.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.archive import Archive, read_registry
from offlinerlkit_romi.data.checks import check_actions, check_finite, check_shapes
from offlinerlkit_romi.data.dataset import Bools, Floats
from offlinerlkit_romi.data.folders import again
from offlinerlkit_romi.data.hdf5 import Rows
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import folder_of

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

FOLDER_VARIABLE = "OFFLINERLKIT_ROMI_NEORL"
URL_VARIABLE = "OFFLINERLKIT_ROMI_NEORL_URL"
# polixir's names beside those of `Rows`
KEYS = {
    "obs": "observations",
    "next_obs": "next_observations",
    "action": "actions",
    "reward": "rewards",
    "done": "terminals",
}
# what numpy and zipfile raise depends on where the bytes stop making sense
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError),
    *(NotImplementedError, SyntaxError, zipfile.BadZipFile, zlib.error),
)


def folder() -> Path:
    """`$OFFLINERLKIT_ROMI_NEORL`, or ~/.neorl/datasets."""
    return folder_of(FOLDER_VARIABLE, "~/.neorl/datasets")


def _registry() -> dict[str, Any]:
    return read_registry("neorl.yaml")


ARCHIVE = Archive(lambda: _registry(), folder, FOLDER_VARIABLE, URL_VARIABLE)


def read_npz(path: Path, task: "Task") -> Rows:
    """Read and check one file in NeoRL's format.

    Terminals are the task's own rule on the next state: `done` is also set where the time limit
    ended a trajectory. A trajectory's last row that is no terminal is a time limit.

    Raises:
        UserError: No such file, no npz, truncated, a missing key, a wrong shape, no rows, NaN or
            infinity, actions outside [-1, 1], or an index that fits no trajectories.
    """
    if not path.is_file():
        raise UserError(f"no data file {path}: give the path of a NeoRL-format npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _numbers(path, file, key) for key, name in KEYS.items()}
            index = _numbers(path, file, "index").reshape(-1)
            metadata = json.loads(str(file["metadata"])) if "metadata" in file else {}
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(
            f"cannot read {path} as npz (truncated, or another format): {again(path)}"
        ) from error
    check_shapes(path, {name: array.shape for name, array in arrays.items()}, task)
    for name, array in arrays.items():
        check_finite(path, name, array)
    check_actions(path, arrays["actions"])
    ends = ends_of(path, index, len(arrays["actions"]))
    return _rows(arrays, ends, metadata, task)


def _numbers(path: Path, file: Any, key: str) -> Floats:
    if key not in file:
        found = ", ".join(sorted(file)) or "nothing"
        raise UserError(
            f"{path} lacks {key} (it holds: {found}): "
            f"a NeoRL-format file needs {', '.join(KEYS)} and index"
        )
    values: NDArray[Any] = file[key]
    if values.dtype.kind not in "biuf":
        raise UserError(f"{path}: {key} holds {values.dtype}, not numbers: write floats there")
    return values.astype(np.float32, copy=False)


def ends_of(path: Path, index: Floats, rows: int) -> Bools:
    """Mark each trajectory's last row: (n,).

    Raises:
        UserError: The index is no rising list of rows.
    """
    borders = index.astype(np.int64)
    fits = len(borders) and (borders == index).all() and (np.diff(borders) > 0).all()
    if not fits or borders[0] < 0 or borders[-1] > rows:
        raise UserError(f"{path}: index is no rising list of rows up to {rows}: {again(path)}")
    ends = np.zeros(rows, dtype=bool)
    ends[borders[borders > 0] - 1] = True
    if borders[0] == 0:  # beginnings: the last trajectory ends with the file
        ends[-1] = True
    return ends


def _rows(arrays: dict[str, Floats], ends: Bools, metadata: dict[str, str], task: "Task") -> Rows:
    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

    rule = get_termination_fn(task)
    following = arrays["next_observations"]
    terminals = rule(arrays["observations"], arrays["actions"], following).reshape(-1)
    done = arrays["terminals"].reshape(-1) != 0
    unlike = int((done != (terminals | ends)).sum())
    notes = [f"{int(ends.sum())} trajectories; terminals are the task's rule on the next state"]
    if unlike:
        notes.append(f"{unlike} rows say done where the rule and the trajectories' ends do not")
    return Rows(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"].reshape(-1),
        terminals=terminals,
        timeouts=ends & ~terminals,
        next_observations=following,
        metadata=metadata,
        notes=tuple(notes),
    )
