"""What a data file must satisfy; each failure is one line with the place and the remedy."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

ACTION_SLACK = 1e-5  # float32 rounding of a tanh
BLOCK_ROWS = 1 << 16  # keeps temporaries in cache


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
        raise UserError(f"{path} holds no transitions: delete it and get it again")


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
