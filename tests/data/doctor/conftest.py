"""Clean data of every simulator and kind, simulated once per process."""

from collections.abc import Callable

import numpy as np
import pytest

from offlinerlkit_romi.data import generate as generator
from offlinerlkit_romi.data.rows import Rows, as_rows
from offlinerlkit_romi.data.worker import run_shard
from offlinerlkit_romi.envs.tasks import get_task

Arrays = dict[str, np.ndarray]
Make = Callable[..., Rows]
_MADE: dict[tuple[str, int], Arrays] = {}


def simulated(task: str, rows: int) -> Arrays:
    """The rows `data generate` would write, from this process."""
    if (task, rows) not in _MADE:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                generator, "run_shards", lambda shards, jobs, bar: [run_shard(s) for s in shards]
            )
            parts = generator.composition(task, rows)
            _MADE[task, rows] = generator._simulate(task, parts, 0, 1, False)
    return {key: value.copy() for key, value in _MADE[task, rows].items()}


@pytest.fixture
def clean() -> Make:
    """Makes clean data: `clean(task, rows)`; keys set to None are left out."""

    def make(task: str, rows: int = 6000, **changes: np.ndarray | None) -> Rows:
        data = as_rows(simulated(task, rows), f"{get_task(task).name}.hdf5")
        return data.with_columns(**changes)

    return make
