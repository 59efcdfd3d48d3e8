from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.envs import get_task, make_env, task_names
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.termination_fns import (
    KIT_RULES,
    RULES,
    get_termination_fn,
    obs_unnormalization,
    termination_fn_hopper,
    termination_fn_none,
)

SIMULATORS = ("halfcheetah", "hopper", "walker2d")
DIMS = {"halfcheetah": 17, "hopper": 11, "walker2d": 17}
HEALTHY = {"halfcheetah": 0.0, "hopper": 1.25, "walker2d": 1.25}
ACT = np.zeros((1, 1))


def state(simulator: str, **changes: float) -> np.ndarray:
    """One healthy observation (1, S), with some entries changed: ``at3=-150.0``."""
    obs = np.zeros((1, DIMS[simulator]))
    obs[0, 0] = HEALTHY[simulator]
    for at, value in changes.items():
        obs[0, int(at.removeprefix("at"))] = value
    return obs


def done(rule: Any, obs: np.ndarray) -> bool:
    return bool(rule(obs, ACT, obs)[0, 0])


def simulated(simulator: str, steps: int) -> Iterator[tuple[np.ndarray, bool, float]]:
    """Yield (obs, the simulator's verdict, its largest speed) along perturbed random motion."""
    rng, env = np.random.default_rng(0), make_env(f"{simulator}-random-v2")
    bare = env.unwrapped
    for step in range(steps):
        if step % 5 == 0:
            env.reset(seed=step)
            spread = rng.choice([0.05, 0.3, 1.0, 30.0])
            qpos = bare.init_qpos + rng.normal(size=bare.model.nq) * min(spread, 1.0)
            bare.set_state(qpos, bare.init_qvel + rng.normal(size=bare.model.nv) * spread)
        obs, _, terminated, _, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        yield obs, terminated, float(np.abs(bare.data.qvel).max())


def at_the_limits(simulator: str) -> Iterator[tuple[np.ndarray, bool, float]]:
    """Yield states on either side of every limit, with the simulator's own verdict on them."""
    env = make_env(f"{simulator}-random-v2").unwrapped
    env.reset(seed=0)
    limits = {"hopper": {1: [0.7], 2: [-0.2, 0.2], 3: [-100.0, 100.0], 5: [-100.0, 100.0]}}
    limits["walker2d"] = {1: [0.8, 2.0], 2: [-1.0, 1.0], 4: [-100.0, 100.0]}
    for joint, values in limits[simulator].items():
        for value in values:
            for shift in (-1e-3, 0.0, 1e-3):
                qpos = env.init_qpos.copy()
                qpos[joint] = value + shift
                env.set_state(qpos, env.init_qvel)
                yield env._get_obs(), env.terminated, 0.0


def verdicts(simulator: str, states: list[tuple[np.ndarray, bool, float]]) -> np.ndarray:
    """Apply the rule in numpy and in torch, assert they agree, return done (n,)."""
    obs = np.stack([obs for obs, _, _ in states])
    rule = get_termination_fn(f"{simulator}-medium-v2")
    result = rule(obs, ACT, obs)
    tensor = torch.as_tensor(obs)
    assert np.array_equal(rule(tensor, tensor, tensor).numpy(), result)
    return result[:, 0]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_rule_agrees_with_the_simulator_on_thousands_of_states(
    simulator: str, here: Path
) -> None:
    states = list(simulated(simulator, 3000))
    expected = np.array([terminated for _, terminated, _ in states])
    got = verdicts(simulator, states)
    # The one known exception: Hopper ends at a true speed of 100, which its observation clips away.
    speeding = np.array([speed >= 100 for _, _, speed in states]) & (simulator == "hopper")
    assert (got & ~expected).sum() == 0, "false positives"
    assert (~got & expected & ~speeding).sum() == 0, "false negatives"
    if simulator == "halfcheetah":
        assert not expected.any()
    else:
        assert 500 < expected.sum() < 2500, "both verdicts must be common for this to test much"


def test_hoppers_speed_limit_cannot_be_seen_from_its_observation() -> None:
    env = make_env("hopper-random-v2").unwrapped
    env.reset(seed=0)
    env.set_state(env.init_qpos, np.full(6, 150.0))
    assert env.terminated and np.abs(env._get_obs()).max() == 10.0
    assert not done(termination_fn_hopper, env._get_obs()[None])


@pytest.mark.parametrize("simulator", ["hopper", "walker2d"])
def test_a_rule_agrees_with_the_simulator_on_either_side_of_every_limit(simulator: str) -> None:
    states = list(at_the_limits(simulator))
    expected = [terminated for _, terminated, _ in states]
    assert verdicts(simulator, states).tolist() == expected
    assert any(expected) and not all(expected)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("compat", [None, "kit"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_terminal_wherever_it_breaks(
    simulator: str, compat: str | None, value: float
) -> None:
    rule = get_termination_fn(simulator, compat=compat)
    assert not done(rule, state(simulator))
    for index in range(DIMS[simulator]):
        assert done(rule, state(simulator, **{f"at{index}": value}))


def test_none_never_ends_an_episode() -> None:
    assert not done(termination_fn_none, state("hopper", at0=np.nan))
    assert get_termination_fn("none") is termination_fn_none


@pytest.mark.parametrize(
    ("simulator", "changes", "ours", "kits"),
    [
        ("hopper", {"at5": -150.0}, True, False),
        ("hopper", {"at5": 150.0}, True, True),
        ("halfcheetah", {"at9": 138.0}, False, True),
        ("walker2d", {"at5": -150.0}, False, True),
    ],
)
def test_the_kits_deviations_are_kept_behind_a_switch(
    simulator: str, changes: dict[str, float], ours: bool, kits: bool
) -> None:
    obs = state(simulator, **changes)
    assert done(get_termination_fn(simulator), obs) is ours
    assert done(get_termination_fn(simulator, compat="kit"), obs) is kits


def test_the_kits_switch_changes_no_other_rule() -> None:
    for name in RULES.keys() - KIT_RULES.keys():
        assert get_termination_fn(name, compat="kit") is RULES[name]


@pytest.mark.parametrize("guard", [None, 100.0])
def test_the_guard_is_off_by_default_and_ends_a_model_that_blows_up(guard: float | None) -> None:
    rule = get_termination_fn("halfcheetah-medium-v2", guard=guard)
    assert done(rule, state("halfcheetah", at3=-100.0)) is (guard is not None)
    assert not done(rule, state("halfcheetah", at3=-99.0))


@pytest.mark.parametrize(
    ("name", "size", "at", "ended", "going_on"),
    [
        ("ant", 27, 0, [0.19, 1.01], [0.2, 1.0]),
        ("ant-medium-v2", 27, 0, [5.0], []),
        ("antmaze-medium-play-v2", 29, 0, [], [0.19, 1.01, 5.0]),  # not taken for ant
        ("humanoid", 45, 0, [0.99, 2.01], [1.0, 2.0]),
        ("pen-human-v1", 45, 26, [0.07], [0.08]),  # dropped
        *((n, 39, 0, [], [1e6]) for n in ("door", "pendulum", "point2denv", "point2dwallenv")),
    ],
)
def test_other_simulators_end_where_their_rule_says(
    name: str, size: int, at: int, ended: list[float], going_on: list[float]
) -> None:
    for value in ended + going_on:
        obs = np.full((1, size), 5.0)
        obs[0, at] = value
        assert done(get_termination_fn(name), obs) is (value in ended)


def test_every_task_has_the_rule_its_table_names() -> None:
    for name in task_names():
        task = get_task(name)
        assert get_termination_fn(name) is RULES[task.termination] is get_termination_fn(task)


@pytest.mark.parametrize("name", ["hopper-full-replay-v2", "hopper-medium-v0", "hopper-expert-v1"])
def test_d4rls_other_data_sets_and_versions_have_their_simulators_rule(name: str) -> None:
    assert get_termination_fn(name) is termination_fn_hopper


@pytest.mark.parametrize(
    "name", ["maze2d-open-v0", "kitchen-mixed-v0", "HalfCheetah-v3", "hopper-medium", "hopper-"]
)
def test_an_unknown_task_is_an_error_that_lists_the_choices_and_never_a_guess(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}': give a function.*none, halfcheetah, hopper"):
        get_termination_fn(name)


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(UserError, match="choose None or 'kit'"):
        get_termination_fn("hopper", compat="KIT")
    with pytest.raises(UserError, match="give a positive limit"):
        get_termination_fn("hopper", guard=0.0)


def test_a_rule_of_ones_own_is_taken_as_it_is() -> None:
    def mine(obs: Any, act: Any, next_obs: Any) -> Any:
        return next_obs[..., :1] > 3

    assert get_termination_fn(mine) is mine
    assert done(get_termination_fn(mine, guard=2.0), np.array([[2.5]]))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("leading", [(), (4,), (2, 3, 4)])
def test_a_rule_keeps_leading_dimensions_kind_and_type(name: str, leading: tuple[int, ...]) -> None:
    obs = np.random.default_rng(0).normal(size=(*leading, 30)).astype(np.float32)
    result = RULES[name](obs, obs, obs)
    assert isinstance(result, np.ndarray) and result.dtype == bool
    assert result.shape == (*leading, 1)
    tensor = torch.as_tensor(obs)
    on_tensor = RULES[name](tensor, tensor, tensor)
    assert on_tensor.dtype == torch.bool
    np.testing.assert_array_equal(on_tensor.numpy(), result)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("compat", [None, "kit"])
def test_a_rule_stays_on_its_device_and_reads_no_value_to_the_host(
    name: str, compat: str | None
) -> None:
    obs = torch.empty(5, 30, device="meta")  # has no values: reading one is an error
    rule = get_termination_fn(name, compat=compat, guard=10.0)
    rule = obs_unnormalization(rule, np.zeros(30), np.ones(30))
    result = rule(obs, obs, obs)
    assert result.device.type == "meta" and result.shape == (5, 1)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_rule_on_normalised_observations_equals_the_rule_on_raw_ones(
    simulator: str, kind: Any
) -> None:
    rng = np.random.default_rng(2)
    obs = rng.normal(0.9, 0.4, size=(500, DIMS[simulator]))
    mean, std = obs.mean(0, keepdims=True), obs.std(0, keepdims=True) + 1e-3
    rule = get_termination_fn(simulator)
    normalised = kind((obs - mean) / std)
    wrapped = obs_unnormalization(rule, kind(mean), kind(std))
    result = wrapped(normalised, normalised, normalised)
    assert type(result) is type(normalised)
    np.testing.assert_array_equal(np.asarray(result), rule(obs, obs, obs))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_undoing_the_normalisation_keeps_float32_and_the_action_and_both_states(kind: Any) -> None:
    seen: list[Any] = []

    def spy(*arguments: Any) -> Any:
        seen.extend(arguments)
        return arguments[2][..., :1] > 0

    obs = kind(np.ones((2, 3), np.float32))
    obs_unnormalization(spy, np.full(3, 10.0), np.full(3, 2.0))(obs, obs, obs * 2)
    assert [str(x.dtype).removeprefix("torch.") for x in seen] == ["float32"] * 3
    assert [float(x[0, 0]) for x in seen] == [12.0, 1.0, 14.0]


def test_an_antmaze_whose_goal_is_known_ends_within_half_a_metre_of_it() -> None:
    # D4RL goal_reaching_env.py, step: norm(xy - goal) <= 0.5, and nothing else
    rule = get_termination_fn("antmaze-large-play-v2", goal=(32.5, 24.5))
    rng = np.random.default_rng(0)
    states = rng.normal(0, 3, (500, 29))
    states[:, :2] = rng.normal((32.5, 24.5), 0.5, (500, 2))
    expected = np.linalg.norm(states[:, :2] - [32.5, 24.5], axis=1) <= 0.5
    assert 50 < expected.sum() < 450
    np.testing.assert_array_equal(rule(states, None, states)[:, 0], expected)
    tensors = torch.as_tensor(states)
    assert torch.equal(rule(tensors, None, tensors)[:, 0], torch.as_tensor(expected))
    states[0, 20] = np.nan
    assert rule(states, None, states)[0, 0]


def test_only_an_antmaze_has_a_goal() -> None:
    assert get_termination_fn("hopper-medium-v2", goal=(0.0, 1.0)) is termination_fn_hopper
