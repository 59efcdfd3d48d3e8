"""What a data file must satisfy; each failure is one line with the place and the remedy."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.folders import again
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

ACTION_SLACK = 1e-5  # float32 rounding of a tanh
BLOCK_ROWS = 1 << 16  # keeps temporaries in cache
FAR = 3.0  # times what 99 % stay below: no tail of one distribution, but damage
Bounds = tuple[tuple[float, ...], tuple[float, ...]]


def check_shapes(path: Path, shapes: dict[str, tuple[int, ...]], task: "Task") -> None:
    """Rows of `task`'s dimensions, equally many under every key, and at least one.

    Raises:
        UserError: They are not.
    """
    observations = shapes["observations"]
    n = observations[0] if observations else 0
    wanted: dict[str, tuple[tuple[int, ...], ...]] = {
        "observations": ((n, task.obs_dim),),
        "next_observations": ((n, task.obs_dim),),
        "actions": ((n, task.action_dim),),
        "infos/goal": ((n, 2),),
    }
    for key, shape in shapes.items():
        allowed = wanted.get(key, ((n,), (n, 1)))
        if shape not in allowed:
            raise UserError(
                f"{path}: {key} has shape {shape}, {task.name} needs "
                f"{' or '.join(map(str, allowed))}: is this the file of another task?"
            )
    if n == 0:
        raise UserError(f"{path} holds no transitions: {again(path)}")


def check_finite(path: Path, key: str, values: NDArray[Any]) -> None:
    """No NaN and no infinity.

    Raises:
        UserError: With the number of bad entries and the first row.
    """
    # a finite sum has finite terms only; one pass, no temporary
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(values)
    if not bad.any():  # the sum overflowed, the entries are fine
        return
    row = int(np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))[0])
    raise UserError(
        f"{path}: {key} holds {int(bad.sum())} NaN or infinite entries, the first in row {row}: "
        "remove these rows or make the file again"
    )


def check_actions(path: Path, actions: NDArray[Any]) -> None:
    """Every action inside [-1, 1], up to float32 rounding.

    Raises:
        UserError: With the number of rows outside, the first one and the largest magnitude.
    """
    largest = max(-float(actions.min()), float(actions.max()))
    if largest <= 1.0 + ACTION_SLACK:
        return
    outside = np.flatnonzero((np.abs(actions) > 1.0 + ACTION_SLACK).any(axis=1))
    raise UserError(
        f"{path}: {len(outside)} rows have actions outside [-1, 1] (first row {int(outside[0])}, "
        f"largest magnitude {largest:g}): rescale or clip the actions to the box"
    )


def sliver(rows: int) -> int:
    """How many of `rows` are so few that they are damage rather than what the data are like."""
    return max(5, rows // 100)


def outside(actions: NDArray[Any], bounds: Bounds) -> NDArray[np.bool_]:
    """Which rows (n,) of actions (n, A) leave the box by more than rounding; NaN does not."""
    low, high = (np.asarray(x, np.float64) for x in bounds)
    slack = 0.5 * ACTION_SLACK * (high - low)
    with np.errstate(invalid="ignore"):
        return np.asarray(((actions < low - slack) | (actions > high + slack)).any(axis=1))


def guessed_bounds(actions: NDArray[Any]) -> Bounds:
    """The box that actions (n, A) of unknown units seem to come from.

    [-1, 1] in each dimension in which at most a sliver of rows leaves it. Else what holds them,
    rounded up to half a leading digit, around zero where both signs occur; values far beyond all
    others do not count.
    """
    finite = actions[np.isfinite(actions).all(axis=1)].astype(np.float64)
    pairs = [_guess(column) for column in finite.T]
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


def _guess(values: NDArray[Any]) -> tuple[float, float]:
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
