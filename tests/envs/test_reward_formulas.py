"""The simulators' reward as a function of (s, a, s') against the rewards they give."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi.envs import get_task, make_env, task_names
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.envs.reward_formulas import RewardFn, reward_formula
from offlinerlkit_romi.errors import UserError

STEPS = 400
# mean and largest error of random actions' rewards
BOUNDS = {
    "halfcheetah-medium-v2": (0.12, 1.0),
    "hopper-medium-v2": (0.004, 0.08),
    "walker2d-medium-v2": (0.012, 0.2),
    "HalfCheetah-v3-low": (0.12, 1.0),
    "Hopper-v3-low": (0.004, 0.08),
    "Walker2d-v3-low": (0.012, 0.2),
}
MEASURED = Path(__file__).parents[2] / "docs" / "results" / "known_rewards.json"


def recorded(name: str) -> tuple[torch.Tensor, ...]:
    """(s, a, s', r, terminal), float64, of random actions."""
    env, rng, rows = make_env(name), np.random.default_rng(0), []
    obs, _ = env.reset(seed=0)
    for step in range(STEPS):
        action = rng.uniform(-1, 1, env.action_space.shape)
        following, reward, terminal, _, _ = env.step(action)
        rows.append((obs, action, following, [reward], [terminal]))
        obs = env.reset(seed=step)[0] if terminal else following
    return tuple(torch.tensor(np.array(column)) for column in zip(*rows, strict=True))


def errors(formula: RewardFn, rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """|formula - recorded|, (n,)."""
    found = formula(*rows[:3])
    assert found.shape == (STEPS, 1)
    return (found - rows[3])[:, 0].abs()


@pytest.mark.parametrize("name", BOUNDS)
def test_the_formula_gives_the_recorded_rewards_within_the_tasks_error(name: str) -> None:
    rows, (mean, largest) = recorded(name), BOUNDS[name]
    error = errors(reward_formula(name), rows)
    assert error.mean() < mean and error.max() < largest
    if "cheetah" not in name.lower():  # the alive bonus is paid on the last step too
        assert rows[4].sum() > 5 and error[rows[4][:, 0]].max() < largest


@pytest.mark.parametrize("name", BOUNDS)
def test_the_mean_velocity_of_a_step_is_closer_than_that_at_either_end(name: str) -> None:
    formula, rows = reward_formula(name), recorded(name)
    obs, action, following = rows[:3]
    error = errors(formula, rows).mean()
    for end in (obs, following):
        assert 2 * error < errors(lambda *_, end=end: formula(end, action, end), rows).mean()


def test_an_observed_x_changes_nothing() -> None:
    obs, action, following, *_ = recorded("Walker2d-v3-low")
    expected = reward_formula("walker2d-medium-v2")(obs[:, 1:], action, following[:, 1:])
    assert torch.equal(reward_formula("Walker2d-v3-low")(obs, action, following), expected)


def test_tasks_of_other_simulators_have_no_formula() -> None:
    with pytest.raises(UserError, match="no reward formula is known for antmaze-umaze-v0"):
        reward_formula("antmaze-umaze-v0")


def test_own_data_of_a_known_simulator_may_have_other_rewards() -> None:
    hopper = get_task("hopper-medium-v2")
    facts = {f.name: getattr(hopper, f.name) for f in fields(hopper)} | {"family": "custom"}
    with pytest.raises(UserError, match="no reward formula is known for hopper-medium-v2"):
        reward_formula(CustomTask(**facts))


def test_the_measured_errors_name_every_task_that_has_a_formula() -> None:
    tasks = {n for family in ("d4rl-mujoco", "neorl") for n in task_names(family)}
    without_sizes = {n for n in tasks if not n.endswith(("-100", "-10000"))}
    assert set(json.loads(MEASURED.read_text())["tasks"]) == without_sizes
    assert all(reward_formula(name) for name in tasks)
