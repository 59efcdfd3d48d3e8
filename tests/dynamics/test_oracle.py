"""The true simulator in the model's place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import offlinerlkit_romi
from offlinerlkit_romi.dynamics import MujocoOracleDynamics
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.utils.scaler import StandardScaler
from offlinerlkit_romi.utils.termination_fns import get_termination_fn
from tests.experiment.conftest import TINY_SETTINGS

STEPS = 400
# velocities that were cut at 10 when they were observed cannot be rebuilt
CUT = 10.0
TASKS = ("hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-medium-v2", "Hopper-v3-low")


def recorded(task: str) -> tuple[np.ndarray, ...]:
    """(s, a, s', r, terminal) of random episodes in gymnasium's own simulator."""
    env, rng, rows = make_bare_env(task), np.random.default_rng(0), []
    obs, _ = env.reset(seed=0)
    for step in range(STEPS):
        action = rng.uniform(-0.6, 0.6, env.action_space.shape)
        next_obs, reward, terminal, _, _ = env.step(action)
        rows.append((obs, action, next_obs, reward, terminal))
        obs = env.reset(seed=step)[0] if terminal or step % 100 == 99 else next_obs
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def oracle(task: str, scaler: StandardScaler | None = None) -> MujocoOracleDynamics:
    return MujocoOracleDynamics(make_bare_env(task), get_termination_fn(task), scaler)


@pytest.mark.parametrize("task", TASKS)
def test_steps_from_rebuilt_states_equal_the_simulators_own(task: str) -> None:
    obs, action, next_obs, reward, terminal = recorded(task)
    rebuilt = np.abs(obs).max(axis=1) < CUT
    assert rebuilt.mean() > 0.3
    made, rewards, ends, _ = oracle(task).step(obs[rebuilt], action[rebuilt])
    np.testing.assert_allclose(made, next_obs[rebuilt], rtol=0, atol=1e-11)
    np.testing.assert_allclose(rewards[:, 0], reward[rebuilt], rtol=0, atol=1e-10)
    if "v3" not in task:  # NeoRL ends episodes by a rule of its own
        np.testing.assert_array_equal(ends[:, 0], terminal[rebuilt])


def test_one_observation_steps_as_a_row_of_many() -> None:
    obs, action, *_ = recorded("hopper-medium-v2")
    model = oracle("hopper-medium-v2")
    one, many = model.step(obs[3], action[3]), model.step(obs, action)
    assert one[0].shape == obs[3].shape
    np.testing.assert_array_equal(one[0], many[0][3])
    assert one[1] == many[1][3, 0]


def test_threads_do_not_change_a_bit() -> None:
    obs, action, *_ = recorded("hopper-medium-v2")
    env = make_bare_env("hopper-medium-v2")
    pair = MujocoOracleDynamics(env, threads=2).step(obs, action)
    np.testing.assert_array_equal(pair[0], MujocoOracleDynamics(env).step(obs, action)[0])


def test_standardised_observations_are_stepped_in_their_own_units() -> None:
    obs, action, next_obs, *_ = recorded("halfcheetah-medium-v2")
    scaler = StandardScaler()
    scaler.fit(obs)
    model = oracle("halfcheetah-medium-v2", scaler)
    made, *_ = model.sample_step(torch.as_tensor(scaler.transform(obs)), torch.as_tensor(action))
    np.testing.assert_allclose(scaler.inverse_transform(made.numpy()), next_obs, atol=1e-9)


def test_true_rewards_are_scaled_and_shifted_like_the_datas() -> None:
    obs, action, _, reward, _ = recorded("hopper-medium-v2")
    told = {"task": "hopper-medium-v2", "dynamics": "oracle", "device": "cpu"}
    config = settle("mopo", {**told, "reward_scale": 10.0, "reward_bias": -3.0}).config
    device = torch.device("cpu")
    setting = Setting(obs.shape[1], action.shape[1], device, Generators(0, device))
    model = build_policy(config, setting).dynamics
    made = model.sample_step(torch.as_tensor(obs), torch.as_tensor(action))[1]
    rebuilt = np.abs(obs).max(axis=1) < CUT
    np.testing.assert_allclose(made[rebuilt, 0], 10 * reward[rebuilt] - 3, atol=1e-9)


def test_a_simulator_with_more_state_than_it_shows_is_refused() -> None:
    import gymnasium

    with pytest.raises(UserError, match="cannot be rebuilt from an observation"):
        MujocoOracleDynamics(gymnasium.make("Pendulum-v1"))


def test_mopo_trains_in_the_true_simulator_and_its_error_is_rounding(tmp_path: Path) -> None:
    made = {"task": "halfcheetah-random-v2", "data": "generated", "transitions": 3000}
    values = TINY_SETTINGS["mopo"] | made | {"log_root": str(tmp_path), "dynamics": "oracle"}
    values["actor_lr_schedule"] = "constant"  # a cosine knows its length
    summary = offlinerlkit_romi.train("mopo", **values, keep_state=True)
    run = Path(summary.run_dir)
    assert not (run / "model" / "dynamics.pth").exists()
    assert offlinerlkit_romi.load_policy(run).dynamics.learns is False
    offlinerlkit_romi.train("mopo", resume=str(run), epoch=values["epoch"] + 1)
    with (run / "record" / "policy_training_progress.csv").open(newline="") as file:
        errors = [float(row["model/prediction_error_1"]) for row in csv.DictReader(file)]
    assert len(errors) == values["epoch"] + 1
    assert max(errors) < 1e-4  # observations are float32


def test_the_true_simulator_has_no_model_to_estimate_with() -> None:
    with pytest.raises(UserError, match="--estimates both: --dynamics oracle has no model"):
        offlinerlkit_romi.train(
            "mopo", **TINY_SETTINGS["mopo"], dynamics="oracle", estimates="both"
        )
