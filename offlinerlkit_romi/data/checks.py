"""What a data file must satisfy; each failure is one line with the place and the remedy."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.rows import (
    FLAGS,
    GOALS,
    KNOWN,
    MATRICES,
    Array,
    Bounds,
    Rows,
    time_limits,
)
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.recipes import generated_folder

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

ACTION_SLACK = 1e-5  # float32 rounding of a tanh
FAR = 3.0  # times what 99 % stay below: no tail of one distribution, but damage


def fitted(rows: Rows, task: "Task") -> Rows:
    """The rows as a benchmark's task takes them: float32, with time limits where none are told.

    Raises:
        UserError: They do not fit the task, are no finite numbers, or have actions outside [-1, 1].
    """
    columns = {key: rows.columns[key] for key in (*KNOWN, GOALS) if key in rows.columns}
    _check_shapes(rows.source, {key: x.shape for key, x in columns.items()}, task)
    for key, values in columns.items():
        if key not in FLAGS:
            check_numbers(rows.source, key, values)
            columns[key] = values.astype(np.float32, copy=False)
            check_finite(rows.source, key, columns[key])
    _check_actions(rows.source, columns["actions"])
    if rows.timeouts is None:
        columns["timeouts"] = time_limits(rows.terminals, task.max_episode_steps)
    return replace(rows, columns=columns, task=task)


def _check_shapes(place: str, shapes: dict[str, tuple[int, ...]], task: "Task") -> None:
    n = shapes["observations"][0]
    wanted = {
        "observations": ((n, task.obs_dim),),
        "next_observations": ((n, task.obs_dim),),
        "actions": ((n, task.action_dim),),
        GOALS: ((n, 2),),
    }
    for key, shape in shapes.items():
        allowed: tuple[tuple[int, ...], ...] = wanted.get(key, ((n,), (n, 1)))
        if shape not in allowed:
            raise UserError(
                f"{place}: {key} has shape {shape}, {task.name} needs "
                f"{' or '.join(map(str, allowed))}: is this the file of another task?"
            )


def check_table(rows: Rows) -> None:
    """Numbers in each column, and one row or one number of them per transition.

    Raises:
        UserError: Something else, which could not be examined nor told apart by rows.
    """
    for key in (key for key in KNOWN if key in rows.columns):
        values = rows.columns[key]
        check_numbers(rows.source, key, values)
        wide = key in MATRICES
        if (values.ndim != 2) if wide else (values.size != len(rows)):
            what = "row" if wide else "number"
            raise UserError(
                f"{rows.source}: {key} has shape {values.shape}: give one {what} per transition"
            )
    stored = rows.next_observations
    if stored is not None and stored.shape != rows.observations.shape:
        raise UserError(
            f"{rows.source}: next_observations has shape {stored.shape}, observations "
            f"{rows.observations.shape}: write the file again"
        )


def check_numbers(place: str, key: str, values: Array) -> None:
    """Numbers, whatever their type.

    Raises:
        UserError: Text, or something else.
    """
    if values.dtype.kind not in "biuf":
        raise UserError(f"{place}: {key} holds {values.dtype}, not numbers: write floats there")


def check_finite(place: str, key: str, values: Array) -> None:
    """No NaN, no infinity, nothing that float32 cannot hold.

    Raises:
        UserError: With the number of bad entries and the first row.
    """
    with np.errstate(all="ignore"):
        values = values.astype(np.float32, copy=False)
        # a finite sum has finite terms only; one pass, no temporary
        if np.isfinite(values.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(values)
    if not bad.any():  # the sum overflowed, the entries are fine
        return
    row = int(np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))[0])
    raise UserError(
        f"{place}: {key} holds {int(bad.sum())} NaN or infinite entries, the first in row {row}: "
        "remove these rows or make the file again"
    )


def _check_actions(place: str, actions: Array) -> None:
    largest = max(-float(actions.min()), float(actions.max()))
    if largest <= 1.0 + ACTION_SLACK:
        return
    outside = np.flatnonzero((np.abs(actions) > 1.0 + ACTION_SLACK).any(axis=1))
    raise UserError(
        f"{place}: {len(outside)} rows have actions outside [-1, 1] (first row {int(outside[0])}, "
        f"largest magnitude {largest:g}): rescale or clip the actions to the box"
    )


def sliver(rows: int) -> int:
    """How many of `rows` are so few that they are damage rather than what the data are like."""
    return max(5, rows // 100)


def outside(actions: Array, bounds: Bounds) -> NDArray[np.bool_]:
    """Which rows (n,) of actions (n, A) leave the box by more than rounding; NaN does not."""
    low, high = (np.asarray(x, np.float64) for x in bounds)
    slack = 0.5 * ACTION_SLACK * (high - low)
    with np.errstate(invalid="ignore"):
        return np.asarray(((actions < low - slack) | (actions > high + slack)).any(axis=1))


def guessed_bounds(actions: Array) -> Bounds:
    """The box that actions (n, A) of unknown units seem to come from.

    [-1, 1] in each dimension in which at most a sliver of rows leaves it. Else what holds them,
    rounded up to half a leading digit, around zero where both signs occur; values far beyond all
    others do not count.
    """
    finite = actions[np.isfinite(actions).all(axis=1)].astype(np.float64)
    pairs = [_guess(column) for column in finite.T]
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


def _guess(values: Array) -> tuple[float, float]:
    sizes = np.abs(values)
    if (sizes > 1.0 + ACTION_SLACK).sum() <= sliver(len(values)):
        return -1.0, 1.0
    usual = float(np.quantile(sizes, 0.99))
    largest = float(sizes.max())
    top = _rounded_up(usual if usual and largest > FAR * usual else largest)
    return (-top if (values < 0).any() else 0.0, top if (values > 0).any() else 0.0)


def _rounded_up(size: float) -> float:
    step = 10.0 ** np.floor(np.log10(size)) / 2
    return float(np.ceil(size * (1 - ACTION_SLACK) / step) * step)


def bounds_in_words(bounds: Bounds) -> str:
    """A box as `train` takes it: two numbers for its flag, else the line of a card."""
    low, high = bounds
    if len(set(low)) == len(set(high)) == 1:
        return f"--action-bounds {low[0]:g} {high[0]:g}"
    return f"action_bounds: {[[*low], [*high]]} in a card"


def again(path: Path) -> str:
    """What to do about a file that is no good: only one that was made here is ours to give up."""
    if path.parent == generated_folder():
        return "delete it, and it is generated again"
    return "write the file again"
