"""Policies tested where sensors, actuators and the simulator are not the data's."""

import math
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi.envs import Evaluator, get_task, make_env
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.shifts import (
    ACTUATION,
    ATTACKS,
    DYNAMICS,
    KINDS,
    SUITES,
    By,
    Draws,
    Shift,
    delta,
    name_of,
    parse,
)
from offlinerlkit_romi.envs.simulator import Simulator
from offlinerlkit_romi.errors import UserError
from tests.envs.test_evaluation import HOPPER, RowPolicy, assert_same

STD = np.linspace(0.5, 3.0, 11)
SENSORS = {
    "delta": "delta:0.5",
    "gaussian": "gaussian:0.3:std",
    "uniform": "uniform:0.3:raw",
    "bias": "bias:0.3:std",
    "drop": "drop:0.3:2steps",
    "stuck": "stuck:0.3:2steps",
    "mask": "mask:3",
    "obs_delay": "obs_delay:2",
}
ACTUATORS = {
    "action_gaussian": "action_gaussian:0.3",
    "action_random": "action_random:0.5",
    "action_repeat": "action_repeat:2",
    "action_delay": "action_delay:2",
}
PUSHED = {name: f"{name}:1.3" for name, kind in KINDS.items() if kind.block == DYNAMICS}
MOVED = SENSORS | ACTUATORS | PUSHED


class Single:
    """Acts in float32, as networks do."""

    def __init__(self) -> None:
        self.policy = RowPolicy(11, 3)

    def select_action(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        return self.policy.select_action(obs, deterministic).astype(np.float32)


class Recorder:
    """Keeps what it was shown and what it did; one action for every number it is shown."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def select_action(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        self.shown.append(obs)
        return np.sin(obs)


class Walk:
    """An environment of as many dimensions as actions, which keeps what was true and done."""

    def __init__(self, width: int = 6, steps: int = 40):
        self.width, self.steps = width, steps

    def reset(self, seed: int | None = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.true, self.done, self.rewards = [self.rng.normal(size=self.width)], [], []
        return self.true[0], {}

    def step(self, action: np.ndarray) -> Any:
        self.done.append(action.copy())
        self.true.append(self.true[-1] + self.rng.normal(size=self.width) + 0.1 * action)
        self.rewards.append(float(self.true[-1] @ action))
        return self.true[-1], self.rewards[-1], False, len(self.done) == self.steps, {}


def walked(condition: str, policy: Any | None = None, seed: int = 0) -> tuple[Walk, Recorder]:
    env, policy = Walk(), policy or Recorder()
    std = np.linspace(0.5, 2.0, env.width)
    Evaluator(env, episodes=1, seed=seed, shifts=condition, obs_std=std)(policy)
    return env, policy


def moves(kind: str, condition: str, x: np.ndarray, episodes: int, std: Any = 1.0) -> np.ndarray:
    """What a kind's function makes of a series x (T, S) in so many episodes, (T, n, S)."""
    (shift,) = parse(condition)
    draws = Draws([np.random.default_rng([7, i]) for i in range(episodes)])
    state, shown = None, []
    for row in x:
        state, moved = KINDS[kind].step(state, np.tile(row, (episodes, 1)), By(shift, draws, std))
        shown.append(moved)
    return np.stack(shown)


def still(name: str) -> str:
    kind = KINDS[name]
    unit = kind.units[0] if kind.units else kind.example
    return f"{name}:{1 if kind.block == DYNAMICS else 0}:{unit}"


@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if kind.block != ATTACKS])
def test_the_neutral_scale_of_every_kind_gives_the_clean_returns_bit_for_bit(name: str) -> None:
    evaluator = Evaluator(HOPPER, episodes=2, seed=3, max_episode_steps=60, obs_std=STD)
    clean = evaluator.under("clean")(Single())
    assert_same(evaluator.under(still(name))(Single()), clean)
    assert_same(Evaluator(HOPPER, episodes=2, seed=3, max_episode_steps=60)(Single()), clean)


@pytest.mark.parametrize("condition", MOVED.values())
def test_a_shift_changes_the_returns_and_restores_the_simulator(condition: str) -> None:
    evaluator = Evaluator(HOPPER, episodes=2, seed=3, max_episode_steps=60, obs_std=STD)
    clean = evaluator.under("clean")(Single())
    shifted = evaluator.under(condition)(Single())
    assert (shifted.returns != clean.returns).all()
    assert_same(evaluator.under(condition)(Single()), shifted)
    assert_same(evaluator.under("clean")(Single()), clean)


@pytest.mark.parametrize("scale", [0.05, 0.2, 0.5])
def test_the_noise_of_delta_is_stationary_with_the_predicted_spread(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(2000, 4)), axis=0)
    noise = moves("delta", f"delta:{scale}", x, 20) - x[:, None]
    assert not noise[0].any()
    change = np.sqrt(np.square(np.diff(x, axis=0)).mean())
    expected = scale / math.sqrt(1 - scale**2) * change
    for half in (noise[100:1000], noise[1000:]):
        assert half.std() == pytest.approx(expected, rel=0.02)


def test_delta_moves_each_number_by_its_own_apparent_change() -> None:
    draws = Draws([np.random.default_rng(1)])
    z = np.random.default_rng(1).standard_normal(2)
    before, now = np.array([[0.5, -1.0]]), np.array([[1.5, -1.0]])
    _, shown = delta((before,), now, By(Shift("delta", 0.2), draws))
    np.testing.assert_allclose(shown, [[1.5 + 0.2 * z[0], -1.0]], rtol=1e-15)


def test_gaussian_and_uniform_noise_have_their_spread_and_bounds_in_each_unit() -> None:
    std, x = np.array([0.5, 2.0, 10.0]), np.zeros((500, 3))
    noise = moves("gaussian", "gaussian:0.1:std", x, 40, std)
    np.testing.assert_allclose(noise.std((0, 1)), 0.1 * std, rtol=0.02)
    noise = moves("uniform", "uniform:0.1:std", x, 40, std)
    assert (abs(noise) <= 0.1 * std).all()
    np.testing.assert_allclose(noise.std((0, 1)), 0.1 * std / math.sqrt(3), rtol=0.02)
    _, policy = walked("gaussian:0.1:raw")
    env, clean = walked("clean")
    raw = np.concatenate(policy.shown)[0] - np.concatenate(clean.shown)[0]
    z = np.random.default_rng(np.random.SeedSequence([0, 0, 0, 2])).standard_normal(env.width)
    np.testing.assert_allclose(raw, 0.1 * z, atol=1e-15)


def test_a_bias_is_constant_within_an_episode_and_drawn_for_each() -> None:
    std = np.array([0.5, 2.0, 10.0])
    offset = moves("bias", "bias:0.1:std", np.zeros((30, 3)), 400, std)
    assert (offset == offset[0]).all() and (abs(offset) <= 0.1 * std).all()
    np.testing.assert_allclose(offset[0].std(0), 0.1 * std / math.sqrt(3), rtol=0.06)


@pytest.mark.parametrize("kind", ["drop", "stuck"])
def test_faults_begin_at_their_rate_and_last_their_steps(kind: str) -> None:
    x = np.arange(1.0, 2001.0)[:, None] * np.ones(3)
    shown = moves(kind, f"{kind}:0.05:5steps", x, 10)
    failing = shown != x[:, None]  # (T, n, S)
    # of each dimension: a run of 5 after a mean wait of 1 / p steps, of which 0 are shown
    wait = (1 - 0.05) / 0.05
    assert failing.mean() == pytest.approx(5 / (5 + wait), rel=0.03)
    line = failing[:-1, 0, 0].astype(int)
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, line, 0])))[::2]
    assert (runs[1:-1] % 5 == 0).all() and (runs == 5).mean() > 0.8
    if kind == "drop":
        assert not shown[failing].any()
    else:
        held = shown[1:][failing[1:]]
        assert (held == shown[:-1][failing[1:]]).all()


def test_masked_dimensions_are_zero_all_along_and_as_many_as_told() -> None:
    shown = moves("mask", "mask:2", np.ones((20, 5)), 50)
    assert (shown == shown[0]).all() and ((shown[0] == 0).sum(1) == 2).all()
    assert len(np.unique(shown[0], axis=0)) > 5
    named = moves("mask", "mask:2:0,3", np.ones((20, 5)), 4)
    assert (named == [0, 1, 1, 0, 1]).all()


def test_delays_show_what_was_and_repeats_keep_what_was_done() -> None:
    x = np.arange(1.0, 8.0)[:, None]
    for kind in ("obs_delay", "action_delay"):
        assert moves(kind, f"{kind}:2", x, 1).ravel().tolist() == [1, 1, 1, 2, 3, 4, 5]
    assert moves("action_repeat", "action_repeat:2", x, 1).ravel().tolist() == [1, 1, 1, 4, 4, 4, 7]


def test_random_actions_come_at_their_rate_and_fill_the_box() -> None:
    moved = moves("action_random", "action_random:0.3", np.full((500, 2), 0.25), 10)
    other = (moved != 0.25).all(-1)
    assert other.mean() == pytest.approx(0.3, abs=0.02)
    assert ((moved != 0.25).any(-1) == other).all()
    assert moved[other].min() < -0.98 and moved[other].max() > 0.98


@pytest.mark.parametrize("condition", SENSORS.values())
def test_the_policy_is_shown_the_shifted_observation_and_the_simulator_keeps_the_true(
    condition: str,
) -> None:
    env, policy = walked(condition)
    shown, true = np.concatenate(policy.shown), np.stack(env.true[:-1])
    assert (shown != true).any(0).sum() >= 3
    np.testing.assert_array_equal(np.stack(env.done), np.sin(shown))
    # reward and state are those of a clean run that is fed the same actions
    clean = Walk()
    actions = iter(env.done)
    scripted = type("Scripted", (), {"select_action": lambda *_, **__: next(actions)[None]})()
    result = Evaluator(clean, episodes=1, seed=0)(scripted)
    np.testing.assert_array_equal(np.stack(clean.true), np.stack(env.true))
    assert clean.rewards == env.rewards and result.returns == [sum(env.rewards)]


@pytest.mark.parametrize("condition", ACTUATORS.values())
def test_the_simulator_gets_the_shifted_action_inside_the_box(condition: str) -> None:
    env, policy = walked(condition)
    meant, done = np.sin(np.concatenate(policy.shown)), np.stack(env.done)
    assert (meant != done).any(1).mean() > 0.3 and abs(done).max() <= 1
    np.testing.assert_array_equal(np.concatenate(policy.shown), np.stack(env.true[:-1]))


@pytest.mark.parametrize("condition", [*SENSORS.values(), *ACTUATORS.values(), "mass:1.3"])
def test_an_episode_does_not_depend_on_how_many_play_nor_on_other_conditions(
    condition: str,
) -> None:
    how = {"seed": 5, "max_episode_steps": 30, "obs_std": STD, "shifts": condition}
    alone = Evaluator(HOPPER, episodes=1, **how)(RowPolicy(11, 3))
    among = Evaluator(HOPPER, episodes=4, **how)
    among.under("gaussian:0.5:raw+gravity:0.5")(RowPolicy(11, 3))
    many = among(RowPolicy(11, 3))
    assert many.returns[0] == alone.returns[0] and len(set(many.returns)) == 4
    if condition != "mass:1.3":
        one_env = Evaluator(make_env(HOPPER), episodes=4, **how)
        np.testing.assert_array_equal(one_env(RowPolicy(11, 3)).returns, many.returns)


def test_shifts_compose_in_their_order_with_draws_of_their_own() -> None:
    both = np.concatenate(walked("gaussian:0.1:raw+drop:0.5:1steps")[1].shown)
    noise = np.concatenate(walked("gaussian:0.1:raw")[1].shown)
    other = np.concatenate(walked("drop:0.5:1steps+gaussian:0.1:raw")[1].shown)
    assert (
        0.3 < (both[0] == 0).mean() < 1 and (both[0][both[0] != 0] == noise[0][both[0] != 0]).all()
    )
    assert (other[0] != 0).all()
    twice = np.concatenate(walked("gaussian:0.1:raw+gaussian:0.1:raw")[1].shown)[0]
    true = walked("clean")[0].true[0]
    assert not np.allclose(twice - true, 2 * (noise[0] - true))


def test_a_second_call_draws_anew_and_a_resumed_count_repeats_it() -> None:
    evaluator = Evaluator(Walk(), episodes=1, shifts="gaussian:0.1:raw")
    first, second = Recorder(), Recorder()
    evaluator(first), evaluator(second)
    again = Evaluator(Walk(), episodes=1, shifts="gaussian:0.1:raw")
    again.load_state_dict({"calls": 1})
    third = Recorder()
    again(third)
    assert (first.shown[0] != second.shown[0]).all()
    np.testing.assert_array_equal(np.stack(second.shown), np.stack(third.shown))


def test_two_resets_do_not_compound_factors_and_the_nominal_model_comes_back() -> None:
    env = make_bare_env(HOPPER)
    nominal = {
        n: getattr(env.model, n).copy() for n in ("body_mass", "dof_invweight0", "dof_damping")
    }
    simulator = Simulator(env)
    for _ in range(2):
        simulator.set(parse("mass:1.3+damping:0.5"))
    np.testing.assert_allclose(env.model.body_mass, 1.3 * nominal["body_mass"], rtol=1e-15)
    np.testing.assert_array_equal(env.model.dof_damping, 0.5 * nominal["dof_damping"])
    assert (env.model.dof_invweight0 != nominal["dof_invweight0"]).all()
    simulator.set(())
    for name, values in nominal.items():
        np.testing.assert_array_equal(getattr(env.model, name), values)


def test_gravity_and_gear_scale_what_they_name() -> None:
    env = make_bare_env("halfcheetah-medium-v2")
    gear = env.model.actuator_gear.copy()
    Simulator(env).set(parse("gravity:0.6+gear:1.4"))
    assert env.model.opt.gravity.tolist() == [0, 0, 0.6 * -9.81]
    np.testing.assert_array_equal(env.model.actuator_gear[:, 0], 1.4 * gear[:, 0])


@pytest.mark.parametrize(
    ("condition", "floor_only", "friction"),
    [("clean", False, 2.0), ("friction:0.5", False, 1.0), ("clean", True, 2.0)],
)
def test_contacts_feel_the_factor_and_the_floor_alone_would_change_nothing(
    condition: str, floor_only: bool, friction: float
) -> None:
    evaluator = Evaluator(HOPPER, episodes=1, max_episode_steps=12, shifts=condition)
    (episode,) = evaluator._episodes()
    if floor_only:
        episode.env.model.geom_friction[0, 0] *= 0.5
    result = evaluator(RowPolicy(11, 3, scale=0.0))
    contacts = episode.env.data.contact.friction[:, 0]
    assert len(contacts) and (contacts == friction).all()
    clean = Evaluator(HOPPER, episodes=1, max_episode_steps=12)(RowPolicy(11, 3, scale=0.0))
    assert (result.returns == clean.returns).all() == (condition == "clean")


def test_mass_scales_every_mass_and_inertia_alike_or_one_bodys() -> None:
    env = make_bare_env("walker2d-medium-v2")
    mass, inertia = env.model.body_mass.copy(), env.model.body_inertia.copy()
    simulator = Simulator(env)
    simulator.set(parse("mass:1.2"))
    np.testing.assert_allclose(env.model.body_mass.sum(), 1.2 * mass.sum(), rtol=1e-14)
    np.testing.assert_array_equal(env.model.body_inertia, 1.2 * inertia)
    simulator.set(parse("mass:2:torso"))
    np.testing.assert_array_equal(env.model.body_mass / np.maximum(mass, 1e-9), [0, 2, *[1] * 6])
    with pytest.raises(
        UserError, match=r"unknown body of shift mass:2:trso 'trso': did you mean t"
    ):
        simulator.set(parse("mass:2:trso"))


@pytest.mark.parametrize("task", ["antmaze-umaze-v0", "halfcheetah-medium-v2"])
def test_a_parameter_that_a_simulator_lacks_is_refused_with_those_it_has(task: str) -> None:
    env = get_task(task) if task.startswith("antmaze") else Walk()
    with pytest.raises(UserError, match=r"no gravity; it knows delta, .*, action_delay$"):
        Evaluator(env, episodes=1, shifts="gravity:0.8")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("detla:0.1", "unknown shift 'detla': did you mean delta or obs_delay? the kinds are"),
        ("gaussian:0.1", "gaussian names no unit; write gaussian:SCALE:std or gaussian:SCALE:raw"),
        ("gaussian:0.1:cm", "gaussian has no unit 'cm'; write gaussian:SCALE:std or"),
        ("drop:0.1", "drop names no unit; write drop:SCALE:5steps"),
        ("delta", "shift 'delta': write delta:SCALE:step"),
        ("delta:1", "shift delta:1:step: the scale of delta is 0 to below 1"),
        ("drop:1.5:2steps", "the scale of drop is a probability"),
        ("action_delay:0.5", "the scale of action_delay is a whole number"),
        ("mass:0", "the scale of mass is a factor above 0"),
        ("delta:nan", "shift delta:nan:step: the scale of delta is 0 to below 1"),
        ("mask:3:0,1", "mask:3:0,1: name 3 dimensions, or none to draw them"),
        (
            "gaussian:0.1:std",
            "counts the standard deviation of the data's observations: give obs_s",
        ),
    ],
)
def test_a_senseless_shift_is_refused_in_one_line(condition: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Evaluator(Walk(), episodes=1, shifts=condition)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_conditions_are_written_as_they_are_read() -> None:
    for condition in (*MOVED.values(), *(c for suite in SUITES.values() for c in suite)):
        shifts = parse(condition)
        assert parse(name_of(shifts)) == shifts
    assert name_of(parse("delta:0.05+mass:1.2:torso")) == "delta:0.05:step+mass:1.2:torso"
    assert {name: len(suite) for name, suite in SUITES.items()} == {
        "robust-v1": 36,
        "robust-small-v1": 11,
    }
    assert {kind for kind, x in KINDS.items() if x.block not in (ATTACKS,)} == MOVED.keys()
    assert {kind for kind, x in KINDS.items() if x.block == ACTUATION} == ACTUATORS.keys()
