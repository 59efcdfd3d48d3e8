"""Small files in D4RL's format, written and read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offlinerlkit_romi.data.card import card_of
from offlinerlkit_romi.data.formats import write_arrays
from offlinerlkit_romi.data.load import read_source
from offlinerlkit_romi.data.rows import Rows


def read_rows(source: str | Path) -> Rows:
    """The rows of a file, a folder or Minari's data set as they stand."""
    return read_source(card_of(source))


def save(rows: Rows, path: Path) -> None:
    write_arrays(path, {**rows.columns, **rows.extras})


def hopper_rows(n: int = 12, seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Rows of hopper's dimensions: a terminal in row 4, a time limit in row 8, an open tail."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "observations": rng.standard_normal((n, 11)).astype(np.float32),
        "actions": np.tanh(rng.standard_normal((n, 3))).astype(np.float32),
        "next_observations": rng.standard_normal((n, 11)).astype(np.float32),
        "rewards": rng.standard_normal(n).astype(np.float32),
        "terminals": np.arange(n) == 4,
        "timeouts": np.arange(n) == 8,
    }
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def write_hdf5(path: Path, arrays: dict[str, np.ndarray], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, **options)
    return path
