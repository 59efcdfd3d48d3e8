"""Fitted-Q evaluation against a row-by-row restatement and against problems that can be solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.ope import FQERows, FQESettings, fitted_q_evaluation
from offlinerlkit_romi.ope import fqe as module
from offlinerlkit_romi.ope.fqe import value_bounds
from tests.reference import fqe as reference


def as_rows(*columns: np.ndarray) -> FQERows:
    return FQERows(*(torch.as_tensor(np.asarray(x, np.float32)) for x in columns))


def random_rows(n: int = 40, terminals: float = 0.3) -> FQERows:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ends = (torch.rand(n, 1, generator=generator) < terminals).float()
    return FQERows(
        draw(n, 3), draw(n, 2), draw(n, 1), draw(n, 3), draw(n, 2), ends, draw(5, 3), draw(5, 2)
    )


def evaluate(rows: FQERows, seed: int = 0, **settings: float):
    return fitted_q_evaluation(
        rows,
        FQESettings(**settings),  # type: ignore[arg-type]
        torch.Generator().manual_seed(seed),
    )


def paying_one(n: int, noise: float, reach: float = 1.0) -> FQERows:
    """A reward of 1 and noise everywhere; `reach` 1 acts at the corners of the data's actions."""
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(n, 3)), rng.uniform(-1, 1, (n, 2))
    drift = 0.95 * obs + 0.3 * action.sum(1, keepdims=True)
    next_obs = np.clip(drift + 0.1 * rng.normal(size=obs.shape), -5, 5)
    plan = 3 * rng.normal(size=(3, 2))
    reward, starts = 1 + noise * rng.normal(size=(n, 1)), obs[:100]
    following, first = reach * np.tanh(next_obs @ plan), reach * np.tanh(starts @ plan)
    return as_rows(obs, action, reward, next_obs, following, 0 * reward, starts, first)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reach", [0.5, 1.0])
def test_a_reward_of_one_is_worth_a_hundred_at_a_discount_of_099(
    noise: float, reach: float
) -> None:
    result = evaluate(paying_one(3000, noise, reach), gamma=0.99)
    assert result.problem == "" and result.mean == pytest.approx(100, abs=5)
    assert result.std < 5 and (result.values - 100).abs().max() < 20


def random_process(n: int, gamma: float) -> tuple[FQERows, np.ndarray]:
    """A process of 6 states and 2 actions that may end; the value as its own rows tell it."""
    rng, k = np.random.default_rng(0), 6
    moves = rng.dirichlet(0.3 * np.ones(k), size=(k, 2))
    pay, ending = rng.normal(size=(k, 2)), 0.1 * (rng.random((k, 2)) < 0.2)
    plan = rng.integers(2, size=k)
    state, action = rng.integers(k, size=n), rng.integers(2, size=n)
    ends = (rng.random(n) < ending[state, action]).astype(float)
    following = np.array([rng.choice(k, p=moves[s, a]) for s, a in zip(state, action, strict=True)])
    pair, next_pair = 2 * state + action, 2 * following + plan[following]
    counted = np.zeros((2 * k, 2 * k))
    np.add.at(counted, (pair, next_pair), 1 - ends)
    counted /= np.bincount(pair, minlength=2 * k)[:, None]
    value = np.linalg.solve(np.eye(2 * k) - gamma * counted, pay.ravel())
    one_hot = np.eye(k)
    rows = as_rows(
        one_hot[state],
        2 * action[:, None] - 1,
        pay[state, action][:, None],
        one_hot[following],
        2 * plan[following][:, None] - 1,
        ends[:, None],
        one_hot,
        2 * plan[:, None] - 1,
    )
    return rows, value[2 * np.arange(k) + plan]


def test_it_finds_the_values_of_a_process_at_a_discount_of_099() -> None:
    rows, expected = random_process(4000, 0.99)
    result = evaluate(rows, gamma=0.99)
    found = result.values.mean(0).numpy()
    assert result.problem == "" and expected.std() > 0.5
    assert abs(found.mean() - expected.mean()) < 0.5 * expected.std()
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=0.3)


def test_it_finds_a_quadratic_value_at_a_discount_of_099() -> None:
    """s' = A s + B a + noise, a = K s, r = 1 - s's - a'a / 10: V(s) = c - s'P s."""
    rng, gamma, n, noise = np.random.default_rng(0), 0.99, 3000, 0.05
    a_matrix, b_matrix = np.array([[0.95, 0.1], [-0.1, 0.95]]), np.array([[0.0], [0.2]])
    k = np.array([[-0.2, -0.6]])
    obs = rng.normal(size=(n, 2))
    action = np.clip(obs @ k.T * rng.uniform(0, 1.5, (n, 1)) + 0.4 * rng.normal(size=(n, 1)), -2, 2)
    next_obs = obs @ a_matrix.T + action @ b_matrix.T + noise * rng.normal(size=obs.shape)
    reward = 1 - (obs**2).sum(1, keepdims=True) - 0.1 * action**2
    closed, cost, p = a_matrix + b_matrix @ k, np.eye(2) + 0.1 * k.T @ k, np.zeros((2, 2))
    for _ in range(5000):
        p = cost + gamma * closed.T @ p @ closed
    starts = obs[:100]
    expected = (1 - gamma * np.trace(p) * noise**2) / (1 - gamma)
    expected = expected - np.einsum("ni,ij,nj->n", starts, p, starts)
    columns = (obs, action, reward, next_obs, next_obs @ k.T, 0 * reward, starts, starts @ k.T)
    result = evaluate(as_rows(*columns), gamma=gamma)
    found = result.values.mean(0).numpy()
    assert result.problem == ""
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_a_fit_equals_a_row_by_row_restatement(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, settings, half = random_rows(), FQESettings(gamma=0.8, steps=3, features=5), range(20)
    monkeypatch.setattr(module, "STILL", -1.0)  # as many regressions as are allowed
    monkeypatch.setattr(module, "PENALTIES", [0.03])
    bounds = -1.5, 2.0  # so narrow that they bind
    generator, again = (torch.Generator().manual_seed(4) for _ in range(2))
    values, *_ = module._fit(
        rows, torch.arange(20), settings, bounds, generator, lambda share: None
    )
    pairs = torch.cat([rows.obs, rows.action], 1).double().numpy()
    following = torch.cat([rows.next_obs, rows.next_action], 1).double().numpy()
    listed = [(pairs[i], float(rows.reward[i]), following[i], bool(rows.terminal[i])) for i in half]
    starts = [*torch.cat([rows.start_obs, rows.start_action], 1).double().numpy()]
    directions = torch.randn(5, 5, generator=again, dtype=torch.float64).numpy() / np.sqrt(10)
    phases = 2 * np.pi * torch.rand(5, generator=again, dtype=torch.float64).numpy()
    expected = reference.evaluate(listed, starts, directions, phases, 0.8, [0.03] * 3, bounds)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert len(set(expected)) > 1


def test_the_penalty_is_the_one_that_predicts_rows_left_out_best() -> None:
    """Generalised cross-validation is leaving one out, the leverages at their mean."""
    rows = random_rows(60)
    half, settings = torch.arange(60), FQESettings(gamma=0.8, features=9)
    problem, _ = module._pose(
        rows, half, settings, value_bounds(rows, 0.8), torch.Generator().manual_seed(0)
    )
    aims = problem.reward + problem.features[:, -1:]
    _, weights, penalty = module.regress(problem, aims, None)
    errors = {}
    for p in module.PENALTIES:
        x = problem.features.numpy()
        inner = np.linalg.inv(x.T @ x + p * 60 * np.eye(9))
        hat = x @ inner @ x.T + 1 / 60
        rest = aims.numpy() - hat @ aims.numpy()
        errors[p] = float((rest**2).sum()) / (60 - np.trace(hat)) ** 2
    assert penalty == min(errors, key=errors.__getitem__)
    inner = np.linalg.inv(x.T @ x + penalty * 60 * np.eye(9))
    np.testing.assert_allclose(weights, (inner @ x.T @ aims.numpy())[:, 0], rtol=1e-6, atol=1e-9)


def test_values_stay_within_what_the_rewards_allow() -> None:
    ends, none = random_rows(), random_rows(terminals=0.0)
    low, high = float(none.reward.min()), float(none.reward.max())
    assert value_bounds(none, 0.75) == pytest.approx((4 * low, 4 * high))
    paying = replace(ends, reward=1 + ends.reward.abs())
    low, high = float(paying.reward.min()), float(paying.reward.max())
    assert value_bounds(paying, 0.75) == pytest.approx((low, 4 * high))
    costing = replace(paying, reward=-paying.reward)
    assert value_bounds(costing, 0.75) == pytest.approx((-4 * high, -low))
    result = evaluate(ends, gamma=0.99)
    low, high = value_bounds(ends, 0.99)
    assert result.values.min() >= low and result.values.max() <= high


def test_a_fit_that_still_moves_is_said_to_be_unsettled() -> None:
    rows, _ = random_process(1000, 0.99)
    assert "still moved" in evaluate(rows, gamma=0.99, steps=3).problem
    assert "discount" in evaluate(rows, gamma=1.0).problem
    broken = replace(rows, next_action=torch.full_like(rows.next_action, torch.nan))
    assert evaluate(broken, gamma=0.99).problem


def test_fits_that_contradict_each_other_are_said_to_be_unsettled() -> None:
    """A hundred rewards of 1 and noise of 5 tell little of a hundred steps."""
    assert "deviate" in evaluate(paying_one(100, 5.0), gamma=0.99).problem


def test_values_beyond_what_rewards_allow_are_said_to_be_unsettled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = paying_one(400, 0.3)
    monkeypatch.setattr(module, "value_bounds", lambda rows, gamma: (10.0, 20.0))
    assert "beyond what rewards allow" in evaluate(rows, gamma=0.8).problem


def test_it_tells_how_far_it_is_and_leaves_where_it_is_told_to() -> None:
    shares: list[float] = []
    rows, settings = random_process(500, 0.9)[0], FQESettings(gamma=0.9)
    fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0), shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 16

    def leave(share: float) -> None:
        if share > 0.2:
            raise TrainingInterrupted("interrupted")

    with pytest.raises(TrainingInterrupted):
        fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0), leave)


def test_it_finds_the_values_of_a_chain_and_believes_no_terminals_successor() -> None:
    """Four states in a row, one-hot; going right pays 1 at each step and ends after the last."""
    states, copies = np.eye(4), 50
    obs = np.tile(np.repeat(states, 2, axis=0), (copies, 1))
    action = np.tile([[1.0], [-1.0]], (4 * copies, 1))  # right, left
    index = np.tile(np.repeat(np.arange(4), 2), copies)
    following = np.where(action[:, 0] > 0, index + 1, np.maximum(index - 1, 0))
    terminal = (following == 4)[:, None]
    reward = np.where(action > 0, 1.0, -2.0)
    # a successor that must not be looked at: far outside everything
    next_obs = np.where(terminal, 1e3, states[np.minimum(following, 3)])
    right = np.ones_like(action)
    rows = as_rows(obs, action, reward, next_obs, right, terminal, states, right[:4])
    result = evaluate(rows, gamma=0.5)
    assert result.problem == ""
    np.testing.assert_allclose(result.values.mean(0), [1.875, 1.75, 1.5, 1.0], atol=0.05)


def test_it_depends_on_its_generator_alone_and_not_on_the_rewards_unit() -> None:
    rows = random_rows()
    first = evaluate(rows, gamma=0.9).values
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = evaluate(rows, gamma=0.9).values
    assert torch.equal(first, again) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, evaluate(rows, seed=1, gamma=0.9).values)
    in_cents = evaluate(replace(rows, reward=rows.reward * 128), gamma=0.9).values
    np.testing.assert_allclose(in_cents, first * 128, rtol=1e-6)


def test_rewards_of_zero_are_worth_nothing() -> None:
    result = evaluate(replace(random_rows(), reward=torch.zeros(40, 1)), gamma=0.99)
    assert result.problem == "" and not result.values.any()
