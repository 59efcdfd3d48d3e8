"""Files of named arrays and Minari's data sets, whoever wrote them: each format once.

Every reader is told which names are wanted, so that what a file holds besides is never read.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.checks import again
from offlinerlkit_romi.data.fast_hdf5 import read_whole
from offlinerlkit_romi.data.rows import KNOWN, Array, Rows
from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.system.files import written_whole

Table = dict[str, Array]
Pick = Callable[[Sequence[str]], Iterable[str]]
# what the readers raise depends on where the bytes stop making sense
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError),
    *(AttributeError, NotImplementedError, SyntaxError, zipfile.BadZipFile, zlib.error),
)


def read_arrays(path: Path, pick: Pick = list) -> Table:
    """Read the arrays of one file that `pick` chooses among the names it holds.

    Args:
        path: An npz, HDF5, CSV or Parquet file, told apart by its suffix.
        pick: Names in the file -> the names to read.

    Raises:
        UserError: No such file, another format, damaged, or a package is missing.
    """
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: no data format ends in {path.suffix!r}: give {KINDS}")
    if not path.is_file():
        raise UserError(f"no data file {path}: check the path")
    form, reader = READERS[path.suffix.lower()]
    try:
        return reader(path, pick)
    except UserError:
        raise
    except DAMAGED as error:
        raise damaged(path, form, error) from error


def damaged(path: Path, form: str, error: Exception) -> UserError:
    """The error for a file whose bytes make no sense."""
    return UserError(
        f"cannot read {path} as {form} (truncated, or another format: {reason_of(error)})",
        again(path),
    )


def _read_npz(path: Path, pick: Pick) -> Table:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in pick(file.files)}


def _read_hdf5(path: Path, pick: Pick) -> Table:
    import h5py

    found: dict[str, Any] = {}

    def visit(group: Any, prefix: str, around: tuple[Any, ...]) -> None:
        for name in group:
            # a link could point into any other file
            own = isinstance(group.get(name, getlink=True), h5py.HardLink)
            key, entry = prefix + name, group[name] if own else None
            if isinstance(entry, h5py.Group):
                if entry not in around:  # a group may hold itself
                    visit(entry, f"{key}/", (*around, entry))
            elif isinstance(entry, h5py.Dataset) and not (entry.external or entry.is_virtual):
                found[key] = entry
            elif key in KNOWN:
                raise UserError(f"{path}: {key} is no array of its own: write a plain array there")

    with h5py.File(path, "r") as file:
        visit(file, "", (file["/"],))
        return {name: _values(found[name]) for name in pick(list(found))}


def _values(entry: Any) -> Array:
    if entry.dtype.kind in "biuf" and entry.shape:
        return read_whole(entry)
    value = entry[()]
    # text of variable length as bytes: numpy would keep it as objects
    return np.asarray(np.bytes_(value) if isinstance(value, bytes | str) else value)


def _read_csv(path: Path, pick: Pick) -> Table:
    pandas = _pandas(path)
    names = [str(name) for name in pandas.read_csv(path, nrows=0).columns]
    wanted = list(dict.fromkeys(pick(names)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*float_precision")
        # the default parser of pandas 2 misses the last bit of one number in a few
        frame = pandas.read_csv(path, usecols=wanted, float_precision="round_trip")
    return frame_table(frame, lambda _: wanted)


def _read_parquet(path: Path, pick: Pick) -> Table:
    pandas = _pandas(path)
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"{path} needs the package pyarrow: pip install 'offlinerlkit-romi[parquet]'"
        ) from error
    wanted = list(dict.fromkeys(pick(parquet.read_schema(path).names)))
    return frame_table(pandas.read_parquet(path, columns=wanted), lambda _: wanted)


def frame_table(frame: Any, pick: Pick) -> Table:
    """The chosen columns of a pandas DataFrame."""
    # pandas may hand out views that cannot be written to, which torch warns of
    return {
        name: np.require(frame[name], requirements="W")
        for name in pick([str(name) for name in frame.columns])
    }


def _pandas(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise UserError(f"{path} needs the package pandas: pip install pandas") from error
    return pandas


HDF5_SUFFIXES = (".hdf5", ".h5")
ARRAY_SUFFIXES = (*HDF5_SUFFIXES, ".npz")  # what holds arrays of any shape, and is written
READERS: dict[str, tuple[str, Callable[[Path, Pick], Table]]] = {
    ".npz": ("npz", _read_npz),
    ".hdf5": ("HDF5", _read_hdf5),
    ".h5": ("HDF5", _read_hdf5),
    ".csv": ("CSV", _read_csv),
    ".parquet": ("Parquet", _read_parquet),
}
# all that a source of data may be, for messages
KINDS = f"a file ({', '.join(READERS)}), a folder of episodes, a card (.yaml) or minari:ID"


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write HDF5 or a compressed npz, as the suffix says, whole or not at all."""
    with written_whole(path, "-o") as temporary:
        if path.suffix in HDF5_SUFFIXES:
            import h5py

            with h5py.File(temporary, "w") as file:
                for key, value in arrays.items():
                    file.create_dataset(key, data=value)
        else:
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def episodes_in(dataset: Any, address: str) -> list[Rows]:
    """The rows of each episode of a Minari data set.

    Raises:
        UserError: It cannot be read, holds no episodes, or its observations are no vectors.
    """
    try:
        parts = [_episode(episode, address) for episode in dataset.iterate_episodes()]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot read {address} ({reason_of(error)}): download it again") from error
    if not parts:
        raise UserError(f"{address} holds no episodes: choose another data set")
    return parts


def _episode(episode: Any, place: str) -> Rows:
    """An episode of T actions and T+1 observations; the state after the last action is there."""
    observations, steps = episode.observations, len(episode.rewards)
    if not isinstance(observations, np.ndarray):
        raise UserError(f"{place}: its observations are no vectors: only those can be read")
    if len(observations) != len(episode.actions) + 1:
        raise UserError(f"{place}: episode {episode.id} is incomplete: download the set again")
    infos = {
        f"infos/{key}": np.asarray(value)[:steps]
        for key, value in (episode.infos or {}).items()
        if not isinstance(value, dict)
    }
    columns = {
        "observations": observations[:-1],
        "actions": episode.actions,
        "rewards": episode.rewards,
        "next_observations": observations[1:],
        "terminals": episode.terminations,
        "timeouts": episode.truncations,
    }
    return Rows(columns | infos, place)
