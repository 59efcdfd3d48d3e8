"""Read a file of the user's into named columns: npz, HDF5, CSV, Parquet.

Every reader is told which columns are wanted, so that what a file holds besides is never read.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

Table = dict[str, NDArray[Any]]
Pick = Callable[[Sequence[str]], Iterable[str]]


def read_table(path: Path, pick: Pick) -> Table:
    """Read the columns of one file that `pick` chooses among the names it holds.

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
    try:
        return READERS[path.suffix.lower()](path, pick)
    except UserError:
        raise
    # what the readers raise depends on where the bytes stop making sense
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, *_DAMAGED) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"cannot read {path} ({reason}): write the file again") from error


def frame_table(frame: Any, pick: Pick) -> Table:
    """The chosen columns of a pandas DataFrame."""
    # pandas may hand out views that cannot be written to, which torch warns of
    return {
        name: np.require(frame[name], requirements="W")
        for name in pick([str(name) for name in frame.columns])
    }


def _read_npz(path: Path, pick: Pick) -> Table:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in pick(file.files)}


def _read_hdf5(path: Path, pick: Pick) -> Table:
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            names.append(name)

    with h5py.File(path, "r") as file:
        file.visititems(visit)  # follows no link to another file
        return {name: np.asarray(file[name][()]) for name in pick(names)}


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


def _pandas(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise UserError(f"{path} needs the package pandas: pip install pandas") from error
    return pandas


_DAMAGED = (zipfile.BadZipFile, zlib.error, MemoryError, NotImplementedError)
READERS: dict[str, Callable[[Path, Pick], Table]] = {
    ".npz": _read_npz,
    ".hdf5": _read_hdf5,
    ".h5": _read_hdf5,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
# all that a source of data may be, for messages
KINDS = f"a file ({', '.join(READERS)}), a folder of episodes, a card (.yaml) or minari:ID"
