"""The fast collection loop against gymnasium's own environments."""

import warnings

import gymnasium
import numpy as np
import pytest

from offlinerlkit_romi.standins.policies import UniformActor, load_actor
from offlinerlkit_romi.standins.recipes import BEHAVIOUR_FOLDER
from offlinerlkit_romi.standins.simulate import SPECS, Lanes, collect, lane_count

POLICIES = {"halfcheetah": "0140k", "hopper": "0180k", "walker2d": "0260k"}


def gym_env(environment: str) -> gymnasium.Env:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gymnasium.make(SPECS[environment].env_id).unwrapped


@pytest.mark.parametrize("environment", SPECS)
@pytest.mark.parametrize("random", [True, False])
def test_steps_are_bit_equal_to_gymnasium(environment: str, random: bool) -> None:
    lanes = Lanes(environment, 2)
    env = gym_env(environment)
    path = BEHAVIOUR_FOLDER / f"{environment}-{POLICIES[environment]}.npz"
    actor = UniformActor(lanes.action_dim) if random else load_actor(path, lanes.action_dim)
    rng, twin, noise = (np.random.default_rng(s) for s in (3, 3, 4))
    running, endings = np.arange(2), 0
    for lane in running:
        lanes.reset(lane, rng)
    env._np_random = twin
    obs, _ = env.reset()
    for _ in range(600):
        seen = lanes.observe()
        assert np.array_equal(seen[0], obs)
        action, _ = actor(seen.astype(np.float32), noise)
        reward, terminal = lanes.step(action, running)
        obs, expected, ended, _, _ = env.step(action[0])
        assert reward[0] == expected
        assert terminal[0] == ended
        if ended:
            endings += 1
            env._np_random = np.random.default_rng(endings)
            lanes.reset(0, np.random.default_rng(endings))
            obs, _ = env.reset()
    assert (endings > 0) == (environment != "halfcheetah") or not random


def test_reset_draws_the_simulators_own_initial_states() -> None:
    for environment in SPECS:
        env, lanes = gym_env(environment), Lanes(environment, 1)
        env._np_random = np.random.default_rng(7)
        lanes.reset(0, np.random.default_rng(7))
        assert np.array_equal(lanes.observe()[0], env.reset()[0])


@pytest.mark.parametrize("count", [1, 3])
def test_collected_rows_are_consecutive_whole_episodes(count: int) -> None:
    data = collect(Lanes("hopper", count), UniformActor(3), 400, np.random.default_rng(0))
    ends = data["terminals"] | data["timeouts"]
    assert ends[-1] and len(ends) >= 400
    inside = ~ends[:-1]
    assert np.array_equal(data["next_observations"][:-1][inside], data["observations"][1:][inside])
    assert not np.array_equal(data["next_observations"][:-1], data["observations"][1:])
    assert np.array_equal(data["infos/qpos"][:, 1:], data["observations"][:, :5])


def test_number_of_lanes_does_not_change_the_mix_of_episode_lengths() -> None:
    # the first finished would be the short ones, if episodes were taken as they finish
    lengths = []
    for count in (1, 8):
        data = collect(Lanes("hopper", count), UniformActor(3), 6000, np.random.default_rng(1))
        lengths.append(len(data["terminals"]) / data["terminals"].sum())
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)


def test_episodes_end_after_a_thousand_steps_with_a_timeout() -> None:
    data = collect(Lanes("halfcheetah", 2), UniformActor(6), 1500, np.random.default_rng(0))
    assert np.flatnonzero(data["timeouts"]).tolist() == [999, 1999]
    assert not data["terminals"].any()
    assert [lane_count(n) for n in (1, 1000, 1001)] == [1, 1, 2]


def test_behaviour_actor_equals_a_float64_restatement() -> None:
    actor = load_actor(BEHAVIOUR_FOLDER / "hopper-0180k.npz", 3)
    obs = np.random.default_rng(0).standard_normal((5, 11)).astype(np.float32)
    action, log_prob = actor(obs, np.random.default_rng(1))
    z = np.random.default_rng(1).standard_normal((5, 3), dtype=np.float32).astype(np.float64)
    w = {k: v.astype(np.float64) for k, v in np.load(BEHAVIOUR_FOLDER / "hopper-0180k.npz").items()}
    hidden = np.maximum(np.maximum(obs @ w["w0"] + w["b0"], 0) @ w["w1"] + w["b1"], 0)
    mean = hidden @ w["w_mean"] + w["b_mean"]
    std = np.exp(np.clip(hidden @ w["w_log_std"] + w["b_log_std"], -20, 2))
    raw = mean + std * z
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / std / (1 - np.tanh(raw) ** 2)
    np.testing.assert_allclose(action, np.tanh(raw), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_prob, np.log(density).sum(axis=1), rtol=1e-3, atol=1e-3)
    assert np.abs(action).max() <= 1.0
