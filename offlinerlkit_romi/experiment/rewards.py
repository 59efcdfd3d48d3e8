"""Reward scales that algorithms ask for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.envs.reward_formulas import RewardFn, reward_formula
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import EDACConfig, IQLConfig, MOBILEConfig
from offlinerlkit_romi.experiment.config import CriticConfig, ModelBasedConfig, RunConfig

Floats = NDArray[np.float32]
RETURN_RANGE = 1000.0  # IQL's published scale: the best and the worst trajectory lie this far apart


def scaled_rewards(config: RunConfig, dataset: Dataset) -> Floats:
    """The data's rewards (n, 1) on the scale the algorithm learns with.

    All with a critic: times `reward_scale` plus `reward_bias`, before anything else. IQL: times
    1000 over the range of trajectory returns, or less one, as told. EDAC and MOBILE, if told:
    standardised. All others: as they are.
    """
    rewards, (scale, bias) = dataset.rewards, reward_map(config)
    if (scale, bias) != (1.0, 0.0):
        rewards = rewards * np.float32(scale) + np.float32(bias)
    if isinstance(config, IQLConfig) and config.reward == "trajectory_range":
        returns = trajectory_returns(dataset)
        spread = float(returns.max() - returns.min())
        return rewards * np.float32(RETURN_RANGE / spread if spread > 0 else 1.0)
    if isinstance(config, IQLConfig) and config.reward == "minus_one":
        return rewards - np.float32(1.0)
    if _standardises(config):
        return (rewards - rewards.mean()) / (rewards.std() + np.float32(1e-3))
    return rewards


def reward_map(config: RunConfig) -> tuple[float, float]:
    """What rewards are multiplied by, and what is added, before anything else."""
    if not isinstance(config, CriticConfig):
        return 1.0, 0.0
    return config.reward_scale, config.reward_bias


def model_reward_map(config: RunConfig, dataset: Dataset) -> tuple[float, float]:
    """What the rewards that a model learns are the data's times, and plus: `scaled_rewards`."""
    scale, bias = reward_map(config)
    if not _standardises(config):
        return scale, bias
    rewards = dataset.rewards * np.float32(scale) + np.float32(bias)
    std = float(rewards.std()) + 1e-3
    return scale / std, (bias - float(rewards.mean())) / std


def known_reward_of(config: ModelBasedConfig, task: Task | str) -> RewardFn | None:
    """The reward of raw (obs, act, next_obs) that a model need not learn; None where it must.

    Raises:
        UserError: It is told to be known, and is not.
    """
    own = task.reward_function() if isinstance(task, CustomTask) else None
    return reward_formula(task) if own is None and config.reward == "known" else own


def _standardises(config: RunConfig) -> bool:
    if isinstance(config, MOBILEConfig):
        return config.norm_reward
    return isinstance(config, EDACConfig) and config.normalize_reward


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
    needs = {}
    if isinstance(config, IQLConfig) and config.reward == "trajectory_range":
        needs["--reward trajectory_range"] = "--reward raw"
    if config.estimates not in ("auto", "none"):
        needs[f"--estimates {config.estimates}"] = "--estimates none"
    reason = dataset.untold() if needs else ""
    for option, other in needs.items() if reason else ():
        raise UserError(f"{option} needs episodes: {reason}; {other} needs none")
