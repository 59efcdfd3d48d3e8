"""D4RL's score scale: 0 is a random policy's return, 100 an expert's."""

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offlinerlkit_romi.envs.tasks import Task, get_task


@overload
def normalized_score(returns: float, task: Task | str) -> float: ...
@overload
def normalized_score(returns: ArrayLike, task: Task | str) -> NDArray[np.float64]: ...
def normalized_score(returns: ArrayLike | float, task: Task | str) -> float | NDArray[np.float64]:
    """Return ``100 (return - ref_min) / (ref_max - ref_min)``, of the shape of `returns`."""
    task = _task(task)
    return _like(100.0 * (np.asarray(returns, np.float64) - task.ref_min) / _span(task))


@overload
def normalized_std(std: float, task: Task | str) -> float: ...
@overload
def normalized_std(std: ArrayLike, task: Task | str) -> NDArray[np.float64]: ...
def normalized_std(std: ArrayLike | float, task: Task | str) -> float | NDArray[np.float64]:
    """Return ``100 std / (ref_max - ref_min)``: a spread has no origin to be shifted by.

    The kit sends the spread through the score itself, which adds 0.62 on Hopper, 2.26 on
    HalfCheetah and -0.04 on Walker2d to every spread it logs.
    """
    return _like(100.0 * np.asarray(std, np.float64) / _span(_task(task)))


def _task(task: Task | str) -> Task:
    return get_task(task) if isinstance(task, str) else task


def _span(task: Task) -> float:
    return task.ref_max - task.ref_min


def _like(value: NDArray[np.float64]) -> float | NDArray[np.float64]:
    return float(value) if value.ndim == 0 else value
