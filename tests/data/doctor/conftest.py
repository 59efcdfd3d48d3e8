"""Clean data of every simulator and kind, simulated once per process."""

from collections.abc import Callable

import numpy as np
import pytest

from offlinerlkit_romi.data.rows import Rows, as_rows
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.standins.recipes import collected
from tests.support.standins import simulated_here

Arrays = dict[str, np.ndarray]
Make = Callable[..., Rows]
_MADE: dict[tuple[str, int], Arrays] = {}


def simulated(task: str, rows: int) -> Arrays:
    """The rows `data generate` would write, from this process."""
    if (task, rows) not in _MADE:
        with simulated_here():
            _MADE[task, rows] = collected(get_task(task), rows, 0, 1, False)[0]
    return {key: value.copy() for key, value in _MADE[task, rows].items()}


@pytest.fixture
def clean() -> Make:
    """Makes clean data: `clean(task, rows)`; keys set to None are left out."""

    def make(task: str, rows: int = 6000, **changes: np.ndarray | None) -> Rows:
        data = as_rows(simulated(task, rows), f"{get_task(task).name}.hdf5")
        return data.with_columns(**changes)

    return make
