"""NeoRL's tasks against polixir's definitions (polixir/NeoRL @ a4b6c57, restated here)."""

import numpy as np
import pytest

from offlinerlkit_romi.envs import canonical, get_task, make_env, normalized_score, task_names
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.utils.termination_fns import get_termination_fn

TASKS = ("HalfCheetah-v3-low", "Hopper-v3-medium", "Walker2d-v3-high-100")
# NeoRL's *_reward.py: time step, alive bonus, control cost
REWARD = {
    "HalfCheetah": (0.05, 0.0, 0.1),
    "Hopper": (0.008, 1.0, 1e-3),
    "Walker2d": (0.008, 1, 1e-3),
}


def steps_of(name: str, count: int = 150):
    """Transitions of random actions: s, a, r, s', terminated."""
    env, rng = make_env(name), np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    for _ in range(count):
        action = rng.uniform(-1, 1, env.action_space.shape)
        following, reward, terminated, _, _ = env.step(action)
        yield obs, action, reward, following, terminated
        obs = env.reset(seed=int(rng.integers(1000)))[0] if terminated else following


def test_27_tasks_of_three_simulators_three_levels_and_three_sizes() -> None:
    names = task_names("neorl")
    assert len(names) == 27 and "Walker2d-v3-medium-10000" in names
    dims = {get_task(name).env_id: get_task(name).obs_dim for name in names}
    assert dims == {"HalfCheetah-v4": 18, "Hopper-v4": 12, "Walker2d-v4": 18}
    assert {get_task(name).max_episode_steps for name in names} == {1000}


@pytest.mark.parametrize("spelling", ["Hopper-L", "Hopper-low", "Hopper-v3-low-1000"])
def test_the_papers_spellings_mean_1000_trajectories(spelling: str) -> None:
    assert canonical(spelling) == "Hopper-v3-low" == get_task(spelling).name
    assert get_task("Hopper-v3-low-100").like == "Hopper-v3-low"


@pytest.mark.parametrize("name", TASKS)
def test_the_observation_is_d4rls_behind_the_x_position(name: str) -> None:
    task, env = get_task(name), make_bare_env(name)
    plain = make_bare_env(f"{name.partition('-')[0].lower()}-random-v2")
    (obs, _), (expected, _) = env.reset(seed=1), plain.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert obs.shape == (task.obs_dim,) and obs[0] == env.data.qpos[0]
        np.testing.assert_array_equal(obs[1:], expected)
        action = rng.uniform(-1, 1, task.action_dim)
        obs, reward, over, _, _ = env.step(action)
        expected, plain_reward, plain_over, _, _ = plain.step(action)
        assert (reward, over) == (plain_reward, plain_over)


@pytest.mark.parametrize("name", TASKS)
def test_the_simulators_reward_is_neorls_formula_of_the_transition(name: str) -> None:
    dt, bonus, cost = REWARD[name.partition("-")[0]]
    for obs, action, reward, following, _ in steps_of(name, 60):
        expected = (following[0] - obs[0]) / dt + bonus - cost * (action**2).sum()
        assert reward == pytest.approx(expected, abs=1e-9)


def neorl_done(robot: str, s: np.ndarray) -> bool:
    """NeoRL's *_done.py on one next state; HalfCheetah has none."""
    if robot == "HalfCheetah":
        return False
    low, high, lean = (0.7, np.inf, 0.2) if robot == "Hopper" else (0.8, 2.0, 1.0)
    state = bool(((s[3:] > -100.0) & (s[3:] < 100.0)).all())
    return not (state and low < s[1] < high and -lean < s[2] < lean)


@pytest.mark.parametrize("name", TASKS)
def test_the_rule_is_neorls_done_function_and_the_simulators_own_end(name: str) -> None:
    robot, rule = name.partition("-")[0], get_termination_fn(name)
    ends = 0
    for obs, action, _, following, over in steps_of(name, 300):
        said = bool(rule(obs[None], action[None], following[None])[0, 0])
        assert said == neorl_done(robot, following) == over
        ends += over
    assert (ends > 3) == (robot != "HalfCheetah")


@pytest.mark.parametrize("name", TASKS)
def test_the_rule_is_neorls_done_function_on_states_no_simulator_reaches(name: str) -> None:
    robot, rule = name.partition("-")[0], get_termination_fn(name)
    rng, size = np.random.default_rng(1), get_task(name).obs_dim
    states = rng.normal(1.0, 0.4, (500, size)) * np.where(rng.random((500, size)) < 0.02, 120, 1)
    states[:, 2] = rng.normal(0, 0.6, 500)
    found = rule(states, np.zeros((500, 6)), states)[:, 0]
    np.testing.assert_array_equal(found, [neorl_done(robot, state) for state in states])
    assert robot == "HalfCheetah" or 50 < found.sum() < 480


@pytest.mark.parametrize(
    ("name", "raw", "score"),  # NeoRL's raw_results.json
    [
        ("HalfCheetah-v3-low", 3363.8, 29.1),
        ("HalfCheetah-v3-high", 9440.0, 77.4),
        ("Hopper-v3-medium", 2124.8, 64.5),
        ("Hopper-v3-low", 212.2, 6.3),
        ("Walker2d-v3-high", 3939.4, 76.6),
        ("Walker2d-v3-medium-100", 2503.3, 48.7),
    ],
)
def test_scores_turn_neorls_raw_results_into_the_published_rows(
    name: str, raw: float, score: float
) -> None:
    assert normalized_score(raw, name) == pytest.approx(score, abs=0.06)
