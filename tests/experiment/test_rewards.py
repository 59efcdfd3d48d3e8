"""The scale of rewards each algorithm learns with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offlinerlkit_romi import load_dataset, load_policy, train
from offlinerlkit_romi.dynamics.ensemble_dynamics import known_reward
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.envs.reward_formulas import reward_formula
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms.cql import CQLConfig
from offlinerlkit_romi.experiment.algorithms.iql import IQLConfig
from offlinerlkit_romi.experiment.build import build_policy
from offlinerlkit_romi.experiment.parts import prepare
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.rewards import trajectory_returns
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS, make_dataset


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
    scaled = settle("iql", {}).config.learned_rewards(dataset)
    factor = 1000 / (returns.max() - returns.min())
    np.testing.assert_allclose(scaled, dataset.rewards * factor, rtol=1e-5)


def test_other_rewards_are_shifted_or_standardised_or_left_alone():
    dataset = make_dataset()
    for algo in ("romi", "cql", "edac", "mobile", "td3bc"):
        assert settle(algo, {}).config.learned_rewards(dataset) is dataset.rewards
    shifted = settle("iql", {"reward": "minus_one"}).config.learned_rewards(dataset)
    np.testing.assert_allclose(shifted, dataset.rewards - 1, rtol=1e-6)
    for algo, name in (("edac", "normalize_reward"), ("mobile", "norm_reward")):
        scaled = settle(algo, {name: True}).config.learned_rewards(dataset)
        assert abs(scaled.mean()) < 1e-3 and abs(scaled.std() - 1) < 1e-2


def test_rewards_are_scaled_and_shifted_before_anything_else():
    dataset = make_dataset()
    config = CQLConfig(reward_scale=4.0, reward_bias=-2.0)  # (r - 0.5) x 4, the kit's on AntMaze
    np.testing.assert_allclose(
        config.learned_rewards(dataset), 4 * (dataset.rewards - 0.5), rtol=1e-5, atol=1e-5
    )
    both = IQLConfig(reward_bias=-1.0, reward="minus_one")
    np.testing.assert_allclose(both.learned_rewards(dataset), dataset.rewards - 2, rtol=1e-5)
    assert CQLConfig().learned_rewards(dataset) is dataset.rewards


def _own_rows(shuffled=False, **changes):
    """A log of 6 episodes of 20 rows with stored next states; each is cut by its last row."""
    parts = own_functions.episodes(6, 20)
    rows = {key: np.concatenate([p[key] for p in parts]) for key in ("actions", "rewards")}
    rows["observations"] = np.concatenate([p["observations"][:-1] for p in parts])
    rows["next_observations"] = np.concatenate([p["observations"][1:] for p in parts])
    rows["terminals"] = np.zeros(120, bool)
    rows["timeouts"] = np.arange(120) % 20 == 19
    rows |= changes
    order = np.random.default_rng(0).permutation(120) if shuffled else np.arange(120)
    rows = {key: value[order] for key, value in rows.items() if value is not None}
    return {"data": rows, "action_bounds": (own_functions.LOW, own_functions.HIGH)}


def test_own_episodes_end_where_flags_say_even_if_the_state_goes_on():
    parts = own_functions.episodes(1, 120)  # one recording, cut into six pieces
    states = parts[0]["observations"]
    told = _own_rows(
        observations=states[:-1], next_observations=states[1:], rewards=parts[0]["rewards"]
    )
    dataset = load_dataset(told.pop("data"), **told)
    expected = dataset.rewards.reshape(6, 20).sum(1)
    np.testing.assert_allclose(trajectory_returns(dataset), expected, rtol=1e-5)


@pytest.mark.parametrize(("shuffled", "changes"), [(True, {}), (False, {"timeouts": None})])
def test_iqls_scale_of_rows_whose_episodes_nobody_tells_is_refused(shuffled, changes, tmp_path):
    settings = {k: v for k, v in TINY_SETTINGS["iql"].items() if k != "task"}
    settings |= {"estimates": "none", "log_root": str(tmp_path / "log")}
    settings |= _own_rows(shuffled, **changes)
    with pytest.raises(UserError, match=r"^--reward trajectory_range needs episodes: .*timeouts"):
        train("iql", **settings)
    assert not (tmp_path / "log").exists()
    assert train("iql", reward="raw", **settings).steps == 8


def test_shuffled_rows_of_a_benchmark_have_no_episodes():
    dataset = make_dataset()
    order = np.random.default_rng(0).permutation(len(dataset))
    arrays = {key: value[order] for key, value in dataset.as_dict().items()}
    with pytest.raises(UserError, match="do not tell the episodes"):
        trajectory_returns(replace(dataset, **arrays, timeouts=np.zeros(len(dataset), bool)))


@pytest.mark.parametrize(("shuffled", "changes"), [(True, {}), (False, {"timeouts": None})])
def test_nothing_is_told_of_returns_where_rows_do_not_tell_the_episodes(shuffled, changes):
    told = _own_rows()
    assert load_dataset(told.pop("data"), **told).info.episodes == 6
    told = _own_rows(shuffled, **changes)
    dataset = load_dataset(told.pop("data"), **told)
    assert dataset.info.episodes == 0 and np.isnan(dataset.info.behaviour_return)
    assert dataset.complete is None
    assert any("do not tell the episodes" in note for note in dataset.info.notes)


@pytest.mark.parametrize("algo", ["romi", "rambo", "mopo", "count_morl", "combo", "mobile"])
@pytest.mark.parametrize("kind", ["known", "learned"])
def test_models_of_the_mujoco_tasks_compute_the_reward_where_told(algo, kind):
    told = TINY_SETTINGS[algo] | {"reward": kind, "reward_scale": 2.0, "reward_bias": -1.0}
    config, dataset, device = settle(algo, told).config, make_dataset(), torch.device("cpu")
    setting, buffers = prepare(config, dataset, device, Generators(0, device))
    dynamics, rows = build_policy(config, setting).dynamics, buffers.real.tensors()
    inputs = rows["observations"], rows["actions"], rows["next_observations"]
    predicted = torch.full_like(rows["rewards"], torch.nan)
    found = known_reward(dynamics, *inputs, predicted)
    if kind == "learned":
        assert found is predicted
        return
    keys = ("observations", "actions", "next_observations")
    expected = reward_formula(config.task)(*(getattr(dataset, key) for key in keys))
    np.testing.assert_allclose(found, 2 * expected - 1, rtol=1e-4, atol=1e-4)


def test_a_run_with_known_rewards_resumes_and_loads(tiny_data, tmp_path):
    told = TINY_SETTINGS["romi"] | {"reward": "known", "log_root": str(tmp_path)}
    told["actor_lr_schedule"] = "constant"  # a cosine knows its length
    summary = train("romi", **told, keep_state=True, checkpoint_share=1.0)
    again = train("romi", resume=summary.run_dir, epoch=told["epoch"] + 1)
    assert again.run_dir == summary.run_dir
    dynamics = load_policy(summary.run_dir, device="cpu").dynamics
    assert dynamics.reward_fn is not None


@pytest.mark.parametrize(
    ("algo", "told", "words"),
    [
        ("mopo", {"task": "antmaze-umaze-v0"}, "no reward formula is known for antmaze-umaze-v0"),
        ("mobile", {"norm_reward": True}, "--norm-reward scales rewards and a known reward"),
    ],
)
def test_a_known_reward_that_cannot_be_is_refused(algo, told, words, tmp_path):
    told = {
        "data": make_dataset().with_info(task=told.get("task", TINY_SETTINGS[algo]["task"]))
    } | told
    settings = TINY_SETTINGS[algo] | {"reward": "known", "log_root": str(tmp_path / "log")} | told
    with pytest.raises(UserError, match=words):
        train(algo, **settings)
    assert not (tmp_path / "log").exists()


def test_a_known_reward_of_own_data_is_the_users_function(tmp_path):
    settings = {k: v for k, v in TINY_SETTINGS["mopo"].items() if k != "task"}
    settings |= {"estimates": "none", "log_root": str(tmp_path / "log"), "reward": "known"}
    settings |= _own_rows() | {"termination": "none"}
    with pytest.raises(UserError, match=r"no reward formula is known for my-task.*reward_fn"):
        train("mopo", **settings)
    assert train("mopo", **settings, reward_fn=own_functions.reward_of).steps == 8
