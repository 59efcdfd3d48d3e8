"""A data file as it stands: every array under its flat key, in its own type, nothing checked.

`convert` and `doctor` need what `hdf5.read_rows` turns away or changes: float64 columns, further
keys, damaged rows.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.checks import check_actions, check_finite, check_shapes
from offlinerlkit_romi.data.columns import DONES, OTHER_NAMES, only_ends
from offlinerlkit_romi.data.folders import again
from offlinerlkit_romi.data.hdf5 import GOALS, Rows, time_limits
from offlinerlkit_romi.data.neorl import KEYS, ends_of
from offlinerlkit_romi.envs.tasks import MAX_EPISODE_STEPS
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import written_whole

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

Array = NDArray[Any]

REQUIRED = ("observations", "actions", "rewards", "terminals")
HDF5_SUFFIXES = (".hdf5", ".h5")
SUFFIXES = (*HDF5_SUFFIXES, ".npz")


@dataclass(frozen=True)
class RawData:
    """The columns of a file.

    Attributes:
        columns: Arrays with one entry per row, by keys such as ``observations``, ``infos/qpos``.
        extras: Everything else the file holds, such as ``metadata/seed``.
        source: Where it was read, for messages.
        notes: What a reader must know of the rows.
    """

    columns: dict[str, Array]
    extras: dict[str, Array]
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["observations"])

    def flags(self, key: str) -> NDArray[np.bool_] | None:
        """`terminals` or `timeouts` as (n,) bool, None where the file does not say."""
        values = self.columns.get(key)
        return None if values is None else np.asarray(values).reshape(-1).astype(bool)

    def text(self, key: str) -> str | None:
        """The text entry ``metadata/<key>``."""
        value = self.extras.get(f"metadata/{key}")
        if value is None or value.shape != () or value.dtype.kind != "S":
            return None
        return bytes(value[()]).decode(errors="replace")

    def with_columns(self, **columns: Array | None) -> "RawData":
        """The same data with some columns replaced; None removes one."""
        merged = {**self.columns, **columns}
        return replace(self, columns={k: v for k, v in merged.items() if v is not None})

    def take(self, kept: Array) -> "RawData":
        """The rows of a mask or of indices."""
        return replace(self, columns={key: value[kept] for key, value in self.columns.items()})


def as_raw(arrays: Mapping[str, Array], source: str) -> RawData:
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
    known = {key for key in arrays if key in (*REQUIRED, "next_observations", "timeouts")}
    for key in sorted(known):
        if arrays[key].shape[:1] != (rows,):
            raise UserError(
                f"{source}: {key} has shape {arrays[key].shape}, observations have {rows} rows: "
                "write the file again"
            )
    per_row = {
        key
        for key, value in arrays.items()
        if not key.startswith("metadata/") and value.shape[:1] == (rows,)
    }
    return RawData(
        columns={key: value for key, value in arrays.items() if key in known | per_row},
        extras={key: value for key, value in arrays.items() if key not in known | per_row},
        source=source,
        notes=notes,
    )


def _with_known_names(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    known, notes = dict(arrays), tuple[str, ...]()
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


def rows_of(data: RawData, path: Path, task: "Task") -> Rows:
    """The rows of a file as a benchmark's task takes them.

    Raises:
        UserError: They do not fit the task, are not finite, or have actions outside [-1, 1].
    """
    wanted = ("observations", "actions", "rewards", "next_observations", GOALS)
    floats = {key: data.columns[key] for key in wanted if key in data.columns}
    flags = {key: x for key in ("terminals", "timeouts") if (x := data.flags(key)) is not None}
    check_shapes(path, {key: x.shape for key, x in (floats | flags).items()}, task)
    for key, value in floats.items():
        floats[key] = value.astype(np.float32, copy=False)
        check_finite(path, key, floats[key])
    check_actions(path, floats["actions"])
    names = [key.removeprefix("metadata/") for key in data.extras]
    return Rows(
        observations=floats["observations"],
        actions=floats["actions"],
        rewards=floats["rewards"].reshape(-1),
        terminals=flags["terminals"],
        timeouts=flags.get("timeouts", time_limits(flags["terminals"], task.max_episode_steps)),
        next_observations=floats.get("next_observations"),
        goals=floats.get(GOALS),
        metadata={name: text for name in names if (text := data.text(name)) is not None},
        notes=data.notes,
    )


def read_raw(path: Path) -> RawData:
    """Read an HDF5 file of D4RL's format, or an npz file with the same keys or NeoRL's.

    Raises:
        UserError: No such file, an unknown or damaged format, or missing columns.
    """
    return as_raw(read_arrays(path), str(path))


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array of an HDF5 or npz file; NeoRL's under D4RL's keys.

    Raises:
        UserError: No such file, or an unknown or damaged format.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: its name ends in {suffix!r}, not in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"no data file {path}: check the path")
    reader = _read_hdf5 if suffix in HDF5_SUFFIXES else _read_npz
    try:
        return reader(path)
    # what h5py and numpy raise depends on where the bytes stop making sense
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, EOFError) as error:
        raise UserError(
            f"cannot read {path} as {'HDF5' if reader is _read_hdf5 else 'npz'} "
            f"(truncated, or another format): {again(path)}"
        ) from error


def _read_hdf5(path: Path) -> dict[str, Array]:
    import h5py

    arrays: dict[str, Array] = {}

    def visit(group: Any, prefix: str) -> None:
        for name in group:
            # a link could point into any other file
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            entry = group[name]
            if isinstance(entry, h5py.Group):
                visit(entry, f"{prefix}{name}/")
            elif not entry.external and not entry.is_virtual:
                arrays[prefix + name] = _plain(entry[()])

    with h5py.File(path, "r") as file:
        visit(file, "")
    return {key: value for key, value in arrays.items() if value.dtype.kind in "biufS"}


def _plain(value: Any) -> Array:
    """Text of variable length as bytes: numpy would keep it as objects."""
    return np.asarray(np.bytes_(value) if isinstance(value, bytes | str) else value)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, zlib.error, AttributeError, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    return _from_neorl(arrays, path) if {*KEYS, "index"} <= set(arrays) else arrays


def _from_neorl(arrays: dict[str, Array], path: Path) -> dict[str, Array]:
    """NeoRL's arrays under D4RL's keys: its `done` is also set where the time limit struck."""
    renamed = {name: arrays[key] for key, name in KEYS.items()}
    done = renamed["terminals"].reshape(-1) != 0
    ends = ends_of(path, arrays["index"].reshape(-1), len(done))
    lengths = np.diff(np.r_[-1, np.flatnonzero(ends)])
    cut = np.flatnonzero(ends)[lengths >= MAX_EPISODE_STEPS]
    renamed["terminals"] = done
    renamed["terminals"][cut] = False
    renamed["timeouts"] = ends & ~renamed["terminals"]
    stated = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    return renamed | {
        f"metadata/{key}": np.asarray(np.bytes_(str(value))) for key, value in stated.items()
    }


def write_hdf5(data: RawData, path: Path) -> None:
    """Write D4RL's format, whole or not at all."""
    import h5py

    with written_whole(path, "-o") as temporary, h5py.File(temporary, "w") as file:
        for key, value in {**data.columns, **data.extras}.items():
            file.create_dataset(key, data=value)


def write_npz(data: RawData, path: Path) -> None:
    """Write a compressed npz file with D4RL's keys, whole or not at all."""
    with written_whole(path, "-o") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{**data.columns, **data.extras})  # type: ignore[arg-type]
