"""The scale of rewards each algorithm learns with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offlinerlkit_romi.experiment.algorithms import CQLConfig, IQLConfig
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.rewards import scaled_rewards, trajectory_returns
from tests.experiment.conftest import make_dataset


def _three_trajectories():
    dataset = make_dataset()
    terminals = dataset.terminals.copy()
    terminals[[100, 250]] = True
    return replace(dataset, terminals=terminals)


def _returns_by_hand(dataset):
    returns, total = [], 0.0
    for row in range(len(dataset)):
        total += float(dataset.rewards[row, 0])
        last = row == len(dataset) - 1
        follows = not last and np.allclose(
            dataset.observations[row + 1], dataset.next_observations[row], atol=1e-6
        )
        if last or dataset.terminals[row, 0] or not follows:
            returns.append(total)
            total = 0.0
    return returns


def test_trajectory_returns_equal_a_row_loop():
    dataset = _three_trajectories()
    np.testing.assert_allclose(trajectory_returns(dataset), _returns_by_hand(dataset), rtol=1e-6)


def test_iql_puts_best_and_worst_trajectory_a_thousand_apart():
    dataset = _three_trajectories()
    returns = trajectory_returns(dataset)
    scaled = scaled_rewards(settle("iql", {}).config, dataset)
    factor = 1000 / (returns.max() - returns.min())
    np.testing.assert_allclose(scaled, dataset.rewards * factor, rtol=1e-5)


def test_other_rewards_are_shifted_or_standardised_or_left_alone():
    dataset = make_dataset()
    for algo in ("romi", "cql", "edac", "mobile", "td3bc"):
        assert scaled_rewards(settle(algo, {}).config, dataset) is dataset.rewards
    shifted = scaled_rewards(settle("iql", {"reward": "minus_one"}).config, dataset)
    np.testing.assert_allclose(shifted, dataset.rewards - 1, rtol=1e-6)
    for algo, name in (("edac", "normalize_reward"), ("mobile", "norm_reward")):
        scaled = scaled_rewards(settle(algo, {name: True}).config, dataset)
        assert abs(scaled.mean()) < 1e-3 and abs(scaled.std() - 1) < 1e-2


def test_rewards_are_scaled_and_shifted_before_anything_else():
    dataset = make_dataset()
    config = CQLConfig(reward_scale=4.0, reward_bias=-2.0)  # (r - 0.5) x 4, the kit's on AntMaze
    np.testing.assert_allclose(
        scaled_rewards(config, dataset), 4 * (dataset.rewards - 0.5), rtol=1e-5, atol=1e-5
    )
    both = IQLConfig(reward_bias=-1.0, reward="minus_one")
    np.testing.assert_allclose(scaled_rewards(both, dataset), dataset.rewards - 2, rtol=1e-5)
    assert scaled_rewards(CQLConfig(), dataset) is dataset.rewards
