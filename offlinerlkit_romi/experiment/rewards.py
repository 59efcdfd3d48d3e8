"""What the data's rewards and episodes tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.data import Dataset
    from offlinerlkit_romi.experiment.config import RunConfig


def model_reward_map(config: RunConfig, dataset: Dataset) -> tuple[float, float]:
    """What the rewards that a model learns are the data's times, and plus."""
    scale, bias = config.reward_map
    if not config.standardises_rewards:
        return scale, bias
    rewards = dataset.rewards * np.float32(scale) + np.float32(bias)
    std = float(rewards.std()) + 1e-3
    return scale / std, (bias - float(rewards.mean())) / std


def trajectory_returns(dataset: Dataset) -> NDArray[np.float64]:
    """Undiscounted return of every piece of consecutive rows (kit behaviour)."""
    return np.add.reduceat(dataset.rewards[:, 0].astype(np.float64), piece_starts(dataset))


def discounted_values(dataset: Dataset, gamma: float) -> NDArray[np.float64]:
    """Discounted return of every piece from its first row."""
    starts = piece_starts(dataset)
    step = np.arange(len(dataset))
    step -= np.repeat(starts, np.diff(np.r_[starts, len(dataset)]))
    return np.add.reduceat(dataset.rewards[:, 0] * np.float64(gamma) ** step, starts)


def piece_starts(dataset: Dataset) -> NDArray[np.int64]:
    """First rows of the episodes' pieces.

    The user's own flags end them. A benchmark's pieces end at a terminal, and where the next row's
    state is not this row's next state, as published.

    Raises:
        UserError: The rows do not tell, see `Dataset.untold`.
    """
    reason = dataset.untold()
    if reason:
        raise UserError(f"{dataset.info.task}: {reason}")
    if dataset.task is not None and dataset.timeouts is not None:
        ends = dataset.flagged()[:-1]
    else:
        ends = dataset.jumps() | dataset.terminals[:-1, 0].astype(bool)
    return np.r_[0, np.flatnonzero(ends) + 1]


def check_episodes(config: RunConfig, dataset: Dataset) -> None:
    """Whether the rows tell the episodes, where what was asked for needs them.

    Raises:
        UserError: They do not.
    """
    needs = config.episodes_for
    reason = dataset.untold() if needs else ""
    for option, other in needs.items() if reason else ():
        raise UserError(f"{option} needs episodes: {reason}; {other} needs none")
