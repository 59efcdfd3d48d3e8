"""Fitted-Q evaluation against a float64 restatement and against problems that can be solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offlinerlkit_romi.estimates import FQERows, FQESettings, fitted_q_evaluation, fqe_loss
from offlinerlkit_romi.estimates.fqe import _make_critic
from tests.reference import fqe as reference


def random_rows(n: int = 40, terminals: float = 0.3) -> FQERows:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ends = (torch.rand(n, 1, generator=generator) < terminals).float()
    return FQERows(
        draw(n, 3), draw(n, 2), draw(n, 1), draw(n, 3), draw(n, 2), ends, draw(5, 3), draw(5, 2)
    )


def as_list(rows: FQERows) -> list[tuple[torch.Tensor, ...]]:
    columns = (rows.obs, rows.action, rows.reward[:, 0], rows.next_obs, rows.next_action)
    ends = rows.terminal[:, 0].bool()
    return [
        (*(column[i].double() for column in columns), bool(ends[i])) for i in range(len(rows.obs))
    ]


def test_the_loss_and_its_gradient_equal_a_row_by_row_restatement() -> None:
    rows = random_rows()
    settings = FQESettings(hidden_dims=(7, 6))
    critic, target = (
        _make_critic(rows, settings, torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    loss = fqe_loss(critic, target, rows, 0.9, 3.0)
    grads = torch.autograd.grad(loss, list(critic.parameters()))
    weights = [p.detach().double().requires_grad_() for p in critic.parameters()]
    old = [p.detach().double() for p in target.parameters()]
    expected = reference.loss_of(weights, old, as_list(rows), 0.9, 3.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for grad, slow in zip(grads, torch.autograd.grad(expected, weights), strict=True):
        np.testing.assert_allclose(grad, slow, rtol=1e-4, atol=1e-6)


def test_the_whole_procedure_equals_a_float64_restatement() -> None:
    rows = random_rows()
    settings = FQESettings(gamma=0.8, steps=5, hidden_dims=(6,), batch_size=6, lr=1e-2, tau=0.1)
    values = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(4))
    again = torch.Generator().manual_seed(4)
    critic = _make_critic(rows, settings, again)
    batches = [torch.randint(40, (6,), generator=again).tolist() for _ in range(settings.steps)]
    starts = [*torch.cat([rows.start_obs, rows.start_action], 1).double()]
    weights = [p.detach() for p in critic.parameters()]
    expected = reference.evaluate(weights, as_list(rows), starts, batches, 0.8, 1e-2, 0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4)


def test_it_finds_the_value_of_a_linear_policy_in_a_linear_system() -> None:
    """s' = A s + B a + noise, r = w's + u a + 1, a = K s: V(s) = v's + 1 / (1 - gamma)."""
    rng, gamma, n = np.random.default_rng(0), 0.6, 4000
    a_matrix, b_matrix = np.array([[0.8, 0.1], [-0.1, 0.7]]), np.array([[0.3], [0.2]])
    w, u, k = np.array([1.0, -0.5]), 0.5, np.array([[-0.3, 0.2]])
    obs, action = rng.normal(size=(n, 2)), rng.uniform(-1, 1, (n, 1))
    next_obs = obs @ a_matrix.T + action @ b_matrix.T + 0.1 * rng.normal(size=(n, 2))
    reward = obs @ w[:, None] + u * action + 1
    closed = a_matrix + b_matrix @ k
    v = np.linalg.solve(np.eye(2) - gamma * closed.T, w + u * k[0])
    starts = rng.normal(size=(200, 2))
    expected = starts @ v + 1 / (1 - gamma)
    columns = (
        obs,
        action,
        reward,
        next_obs,
        next_obs @ k.T,
        np.zeros((n, 1)),
        starts,
        starts @ k.T,
    )
    rows = FQERows(*(torch.tensor(x, dtype=torch.float32) for x in columns))
    settings = FQESettings(
        gamma=gamma, steps=500, hidden_dims=(32,), batch_size=64, lr=1e-2, tau=0.1
    )
    values = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0)).numpy()
    assert abs(values.mean() - expected.mean()) < 0.1 * expected.std()
    assert np.sqrt(np.mean((values - expected) ** 2)) < 0.2 * expected.std()


def test_it_finds_the_values_of_a_chain_and_believes_no_terminals_successor() -> None:
    """Four states in a row, one-hot; going right pays 1 at each step and ends after the last."""
    gamma, states = 0.5, np.eye(4, dtype=np.float32)
    obs = np.repeat(states, 2, axis=0)
    action = np.tile(np.array([[1.0], [-1.0]], np.float32), (4, 1))  # right, left
    index = np.repeat(np.arange(4), 2)
    following = np.where(action[:, 0] > 0, index + 1, np.maximum(index - 1, 0))
    terminal = (following == 4).astype(np.float32)[:, None]
    reward = np.where(action > 0, 1.0, -2.0).astype(np.float32)
    # a successor that must not be looked at: far outside everything
    next_obs = np.where(terminal > 0, 1e3, states[np.minimum(following, 3)]).astype(np.float32)
    right = np.ones((8, 1), np.float32)
    columns = (obs, action, reward, next_obs, right, terminal, states, right[:4])
    rows = FQERows(*(torch.tensor(x) for x in columns))
    settings = FQESettings(
        gamma=gamma, steps=600, hidden_dims=(32,), batch_size=16, lr=1e-2, tau=0.1
    )
    values = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(values, [1.875, 1.75, 1.5, 1.0], atol=0.08)


def test_it_depends_on_its_generator_alone_and_not_on_the_rewards_unit() -> None:
    rows = random_rows()
    settings = FQESettings(gamma=0.9, steps=20, hidden_dims=(8,), batch_size=8)
    first = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0))
    assert torch.equal(first, again) and torch.equal(state, torch.get_rng_state())
    other = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(1))
    assert not torch.equal(first, other)
    in_cents = fitted_q_evaluation(
        replace(rows, reward=rows.reward * 128), settings, torch.Generator().manual_seed(0)
    )
    np.testing.assert_allclose(in_cents, first * 128, rtol=1e-4)


def test_rewards_of_zero_are_worth_nothing() -> None:
    rows = replace(random_rows(), reward=torch.zeros(40, 1))
    settings = FQESettings(gamma=0.5, steps=400, hidden_dims=(16,), batch_size=16, lr=1e-2, tau=0.1)
    values = fitted_q_evaluation(rows, settings, torch.Generator().manual_seed(0))
    assert values.abs().max() < 0.05
