from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi.envs import (
    EvalResult,
    Evaluator,
    evaluation,
    get_task,
    make_env,
)
from offlinerlkit_romi.envs.evaluation import Episode
from offlinerlkit_romi.envs.gym_style import GymStyleEnv
from offlinerlkit_romi.errors import UserError

HOPPER = "hopper-medium-v2"


class RowPolicy:
    """Deterministic; each row's action depends on that row alone, to the last bit."""

    def __init__(self, obs_dim: int, action_dim: int, scale: float = 1.0):
        self.weight = np.random.default_rng(1).normal(size=(obs_dim, action_dim)) * scale
        self.batches: list[int] = []

    def select_action(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        assert deterministic
        self.batches.append(len(obs))
        return np.sin((obs[:, :, None] * self.weight).sum(1)) * 1.5  # (n, S, A) -> (n, A)


class Countdown:
    """Old gym: ends after as many steps as its seed says; the reward is the action."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.closed = False

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def reset(self) -> np.ndarray:
        self.left = self.seeds[-1] % 7 + 1
        return np.array([float(self.left)])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        self.left -= 1
        return np.array([float(self.left)]), float(action[0]), self.left == 0, {}

    def close(self) -> None:
        self.closed = True


class Unseedable:
    """Old gym without `seed` or `close`; never ends by itself."""

    def reset(self) -> np.ndarray:
        return np.zeros(1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        return np.zeros(1), 1.0, False, {}


class Constant:
    def __init__(self, action: Any):
        self.action = action

    def select_action(self, obs: np.ndarray, deterministic: bool = False) -> Any:
        return np.full((len(obs), 1), self.action)


def one_by_one(name: str, policy: RowPolicy, seeds: list[int]) -> EvalResult:
    """The slow oracle: Gymnasium's own wrappers, one observation per actor call."""
    env, returns, lengths = make_env(name), [], []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        total, length, done = 0.0, 0, False
        while not done:
            action = policy.select_action(obs[None], deterministic=True)[0]
            obs, reward, terminated, truncated, _ = env.step(action)
            total, length, done = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    return EvalResult(np.array(returns), np.array(lengths))


def assert_same(result: EvalResult, expected: EvalResult) -> None:
    np.testing.assert_array_equal(result.returns, expected.returns)
    np.testing.assert_array_equal(result.lengths, expected.lengths)


@pytest.mark.parametrize("name", [HOPPER, "halfcheetah-medium-v2", "walker2d-medium-v2"])
def test_side_by_side_returns_equal_one_by_one_returns_exactly(name: str) -> None:
    task = get_task(name)
    policy = RowPolicy(task.obs_dim, task.action_dim)
    evaluator = Evaluator(task, episodes=3, seed=4)
    seeds = evaluator._seeds()
    result = evaluator(policy)
    assert max(policy.batches) == 3 and len(policy.batches) == result.lengths.max()
    assert_same(result, one_by_one(name, policy, seeds))


def test_a_single_env_is_evaluated_episode_by_episode_with_the_same_outcome() -> None:
    policy = RowPolicy(11, 3)
    together = Evaluator(HOPPER, episodes=3, seed=2)(policy)
    policy.batches.clear()
    for env in (GymStyleEnv(HOPPER), make_env(HOPPER)):
        assert_same(Evaluator(env, episodes=3, seed=2)(policy), together)
    assert set(policy.batches) == {1}


def test_a_factory_is_called_once_per_episode_and_its_envs_are_reused() -> None:
    made: list[Countdown] = []
    evaluator = Evaluator(lambda: made.append(Countdown()) or made[-1], episodes=4)
    evaluator(Constant(0.5)), evaluator(Constant(0.5))
    assert len(made) == 4 and all(len(env.seeds) == 2 for env in made)


def test_a_class_is_a_factory_and_an_old_gym_env_runs_until_it_is_done() -> None:
    evaluator = Evaluator(Countdown, episodes=6, seed=9)
    expected = [seed % 7 + 1 for seed in evaluator._seeds()]
    result = evaluator(Constant(0.5))
    assert result.lengths.tolist() == expected
    np.testing.assert_array_equal(result.returns, np.array(expected) * 0.5)


def test_an_env_without_seed_or_time_limit_obeys_the_given_limit() -> None:
    with Evaluator(Unseedable, episodes=2, max_episode_steps=5) as evaluator:
        result = evaluator(Constant(0.0))
    assert_same(result, EvalResult(np.array([5.0, 5.0]), np.array([5, 5])))


def test_the_time_limit_is_the_tasks_or_the_envs_own() -> None:
    still = RowPolicy(17, 6, scale=0.0)
    assert Evaluator("halfcheetah-expert-v2", episodes=1)(still).lengths.tolist() == [1000]
    short = Evaluator("halfcheetah-expert-v2", episodes=1, max_episode_steps=7)
    assert short(still).lengths.tolist() == [7]
    assert Episode(make_env(HOPPER), None).max_steps == 1000
    assert Episode(GymStyleEnv(HOPPER), None).max_steps == 1000


def test_an_episode_that_never_ends_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "RUNAWAY_STEPS", 50)
    with pytest.raises(UserError, match=r"not ended after 50 steps.*pass max_episode_steps"):
        Evaluator(Unseedable(), episodes=1)(Constant(0.0))


def test_calls_differ_and_evaluators_of_one_seed_agree_call_by_call() -> None:
    policy = RowPolicy(11, 3)
    first, second = (Evaluator(HOPPER, episodes=2, seed=7) for _ in range(2))
    calls = [first(policy), first(policy)]
    second(RowPolicy(11, 3, scale=0.0))  # what another policy did before must not matter
    assert_same(second(policy), calls[1])
    assert not np.array_equal(calls[0].returns, calls[1].returns)
    other_seed = Evaluator(HOPPER, episodes=2, seed=8)(policy)
    assert not np.array_equal(calls[0].returns, other_seed.returns)


def test_a_saved_call_number_resumes_exactly() -> None:
    policy = RowPolicy(11, 3)
    straight = Evaluator(HOPPER, episodes=2)
    straight(policy)
    state = straight.state_dict()
    resumed = Evaluator(HOPPER, episodes=2)
    resumed.load_state_dict(state)
    assert_same(resumed(policy), straight(policy))
    assert straight.state_dict() == {"calls": 2}


def test_a_longer_evaluation_begins_with_the_episodes_of_a_shorter_one() -> None:
    policy = RowPolicy(11, 3)
    short, long = (Evaluator(HOPPER, episodes=n)(policy) for n in (2, 4))
    np.testing.assert_array_equal(long.returns[:2], short.returns)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_policy_is_named_and_the_call_does_not_count(bad: float) -> None:
    evaluator = Evaluator(Countdown, episodes=2)
    with pytest.raises(UserError, match=r"policy's action is NaN or infinite at step 0.*diverged"):
        evaluator(Constant(bad))
    assert evaluator.state_dict() == {"calls": 0}


def test_actions_of_a_wrong_shape_are_refused() -> None:
    class Flat:
        def select_action(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
            return np.zeros(3)

    with pytest.raises(UserError, match=r"shape \(3,\) for 2 observations.*\(2, action_dim\)"):
        Evaluator(Countdown, episodes=2)(Flat())


@pytest.mark.parametrize("arguments", [{"episodes": 0}, {"seed": -1}])
def test_a_senseless_number_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least one episode and a seed that is not negative"):
        Evaluator(HOPPER, **arguments)


def test_something_that_is_no_environment_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot evaluate on 3: give a task's name"):
        Evaluator(3)
    with pytest.raises(UserError, match="unknown task"):
        Evaluator("hopper")


def test_close_closes_its_own_envs_and_leaves_a_given_one_open() -> None:
    made: list[Countdown] = []
    own = Evaluator(lambda: made.append(Countdown()) or made[-1], episodes=2)
    own(Constant(0.0))
    own.close()
    assert [env.closed for env in made] == [True, True]
    given = Countdown()
    with Evaluator(given, episodes=1) as evaluator:
        evaluator(Constant(0.0))
    assert not given.closed
