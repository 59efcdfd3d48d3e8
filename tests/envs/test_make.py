import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi.envs import get_task, make_env, normalized_score, task_names
from offlinerlkit_romi.envs.gym_style import GymStyleEnv
from offlinerlkit_romi.envs.make import _check_mujoco, make_bare_env
from offlinerlkit_romi.errors import UserError

ONE_OF_EACH = ("halfcheetah-random-v2", "hopper-medium-v2", "walker2d-expert-v2")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_simulator_has_the_tasks_dimensions_and_time_limit(name: str) -> None:
    task, env = get_task(name), make_env(name)
    assert env.spec.id == task.env_id
    assert env.spec.max_episode_steps == task.max_episode_steps
    assert env.observation_space.shape == (task.obs_dim,)
    assert env.action_space.shape == (task.action_dim,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()


def test_every_task_names_a_simulator_that_exists() -> None:
    for env_id in {get_task(name).env_id: name for name in task_names()}.values():
        make_env(env_id).close()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_action_beyond_the_bounds_acts_and_costs_like_the_bound(name: str) -> None:
    beyond, at_bound = make_env(name), make_env(name)
    beyond.reset(seed=3), at_bound.reset(seed=3)
    actions = np.full(get_task(name).action_dim, 3.0)
    got, expected = beyond.step(actions), at_bound.step(np.clip(actions, -1, 1))
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[1] == expected[1]


def test_making_a_simulator_is_silent_and_leaves_other_deprecations_audible() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_env("hopper-medium-v2")
        warnings.warn("something else", DeprecationWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["something else"]


@pytest.mark.parametrize(
    ("package", "task", "extra"),
    [
        ("gymnasium", "hopper-medium-v2", r"gymnasium\["),
        ("mujoco", "hopper-medium-v2", r"gymnasium\["),
        ("gymnasium_robotics", "antmaze-umaze-v2", r"offlinerlkit-romi\[antmaze\]"),
    ],
)
@pytest.mark.parametrize("make", [make_env, make_bare_env, GymStyleEnv])
def test_a_missing_package_is_named_with_the_pip_command(
    package: str, task: str, extra: str, make: Any, installed: Callable[..., None]
) -> None:
    installed(**{package: None})
    with pytest.raises(UserError, match=rf"needs the package {package}: pip install '{extra}"):
        make(task)


@pytest.mark.parametrize("version", ["3.5.0", "3.10.1", "4.0.0"])
@pytest.mark.parametrize(
    ("task", "robot"), [("hopper-medium-v2", "Hopper"), ("antmaze-umaze-v2", "Ant")]
)
def test_a_mujoco_with_another_hopper_or_ant_is_refused_for_these_alone(
    version: str, task: str, robot: str
) -> None:
    words = rf"mujoco {version} simulates another {robot}.*pip install 'mujoco>=3.0,<3.5'"
    with pytest.raises(UserError, match=words):
        _check_mujoco(version, get_task(task))
    _check_mujoco(version, get_task("walker2d-medium-v2"))
    _check_mujoco("3.4.0", get_task(task))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_gym_style_env_steps_like_the_simulator_beneath(name: str) -> None:
    env, oracle = GymStyleEnv(name), make_env(name)
    assert env.seed(5) == [5]
    obs, (expected, _) = env.reset(), oracle.reset(seed=5)
    np.testing.assert_array_equal(obs, expected)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-2, 2, env.action_space.shape)
        obs, reward, done, _ = env.step(action)
        expected, expected_reward, terminated, truncated, _ = oracle.step(action)
        np.testing.assert_array_equal(obs, expected)
        assert (reward, done) == (expected_reward, terminated or truncated)
        if done:
            break


def test_a_seed_holds_for_one_reset_and_fixes_the_ones_after_it() -> None:
    env = GymStyleEnv("hopper-medium-v2")
    starts = []
    for _ in range(2):
        env.seed(1)
        starts.append([env.reset(), env.reset()])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0][0], starts[0][1])


def test_an_episode_cut_by_the_time_limit_says_so() -> None:
    env = GymStyleEnv("halfcheetah-random-v2")
    env.reset()
    action = np.zeros(6)
    infos = [env.step(action)[2:] for _ in range(env._max_episode_steps)]
    assert [done for done, _ in infos] == [False] * 999 + [True]
    assert infos[-1][1]["TimeLimit.truncated"] is True
    assert "TimeLimit.truncated" not in infos[0][1]
    env.close()


def test_the_gym_style_score_is_a_hundredth_of_ours() -> None:
    env = GymStyleEnv("walker2d-expert-v2")
    assert env.get_normalized_score(4592.3) == pytest.approx(1.0)
    assert env.get_normalized_score(1000.0) * 100 == normalized_score(1000.0, env.task)
