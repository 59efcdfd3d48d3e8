"""A leader's gradient against a follower that answers: algebra, estimators, derivatives."""

import torch

from offlinerlkit_romi.bilevel import (
    Curvature,
    constrained_response,
    pair_weights,
    smallest_eigenvalue,
)
from tests.support.policies import FLOAT64, generator

PARAMETERS, TRAJECTORIES, HORIZON, DATA_ROWS = 60, 3, 4, 6


class Instance:
    """A random curvature c I + G^T K G + (lambda/M) F^T F, dense and by its rows."""

    def __init__(self, seed: int = 0, damping: float = 90.0, multiplier: float = 1.7) -> None:
        source = generator(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=FLOAT64, generator=source)

        self.damping, self.multiplier = torch.tensor(damping, dtype=FLOAT64), multiplier
        self.weight = draw(TRAJECTORIES, HORIZON)
        self.played = draw(TRAJECTORIES, HORIZON, PARAMETERS)
        self.data = draw(DATA_ROWS, PARAMETERS)
        self.g, self.b = draw(PARAMETERS), draw(PARAMETERS)
        self.rows = torch.cat([self.played.flatten(0, 1), self.data])
        pairs = pair_weights(self.weight, torch.zeros_like(self.weight))
        fisher = torch.eye(DATA_ROWS, dtype=FLOAT64) * multiplier / DATA_ROWS
        self.weights = torch.block_diag(*pairs, fisher)
        self.curvature = Curvature(self.rows @ self.rows.mT, self.weights, self.damping)
        identity = torch.eye(PARAMETERS, dtype=FLOAT64)
        self.dense = damping * identity + self.rows.mT @ self.weights @ self.rows

    def inner(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        solved = self.curvature.solve((self.rows @ v).unsqueeze(1)).squeeze(1)
        return self.curvature.inner(u @ v, self.rows @ u, solved)

    def answer(self, gap: float, g: torch.Tensor | None = None) -> torch.Tensor:
        """P H g."""
        g = self.g if g is None else g
        along = torch.stack([self.rows @ g, self.rows @ self.b], 1)
        solved = self.curvature.solve(along).unbind(1)
        products = self.inner(self.b, g), self.inner(self.b, self.b)
        return constrained_response(
            *solved, *products, torch.tensor(gap, dtype=FLOAT64), self.multiplier
        )


def woodbury(inverse: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(A + left^T right)^-1 from A^-1."""
    core = torch.eye(len(left), dtype=FLOAT64) + right @ inverse @ left.mT
    return inverse - inverse @ left.mT @ torch.linalg.solve(core, right @ inverse)


def test_the_answer_by_inner_products_equals_a_dense_solve_and_a_chain_of_woodburys() -> None:
    case = Instance()
    a, played = case.weight.unsqueeze(-1), case.played
    weighted, plain = (a * played).sum(1), played.sum(1)
    chain = torch.eye(PARAMETERS, dtype=FLOAT64) / case.damping
    chain = woodbury(chain, case.data * case.multiplier / DATA_ROWS, case.data)
    pairs = 0.5 * torch.cat([weighted, plain]), torch.cat([plain, weighted])
    chain = woodbury(chain, *pairs)
    chain = woodbury(chain, -(a * played).flatten(0, 1), played.flatten(0, 1))
    expected = torch.linalg.solve(case.dense, case.g)
    found = case.curvature.solve((case.rows @ case.g).unsqueeze(1)).squeeze(1)
    for other in (case.rows @ expected, case.rows @ chain @ case.g):
        torch.testing.assert_close(found, other, rtol=1e-10, atol=1e-10)
    overlap = case.b @ expected
    torch.testing.assert_close(case.inner(case.b, case.g), overlap, rtol=1e-10, atol=1e-10)


def test_the_constrained_answer_is_the_block_of_the_kkt_systems_inverse() -> None:
    case, gap = Instance(), -0.8
    column, row = case.b.unsqueeze(1), case.multiplier * case.b.unsqueeze(0)
    corner = torch.tensor([[gap]], dtype=FLOAT64)
    system = torch.cat([torch.cat([case.dense, column], 1), torch.cat([row, corner], 1)])
    block = torch.linalg.inv(system)[:PARAMETERS, :PARAMETERS]
    inverse = torch.linalg.inv(case.dense)
    slack = gap - case.multiplier * case.b @ inverse @ case.b
    middle = case.multiplier * torch.outer(inverse @ case.b, inverse @ case.b) / slack
    torch.testing.assert_close(block, block.mT, rtol=1e-10, atol=1e-10)
    for form in (block, inverse + middle):
        torch.testing.assert_close(
            case.answer(gap), case.rows @ form @ case.g, rtol=1e-10, atol=1e-10
        )


def test_nothing_is_left_of_the_constraints_direction_where_it_is_met_or_violated() -> None:
    case = Instance()
    for gap in (0.0, 3.0):
        assert case.answer(gap, case.b).abs().max() < 1e-10
        # the follower's own stationarity: g = -lambda b
        assert case.answer(gap, -case.multiplier * case.b).abs().max() < 1e-10
    assert case.answer(-0.5, case.b).abs().max() > 1e-3


def test_a_constraint_that_is_not_felt_leaves_the_unconstrained_answer() -> None:
    case = Instance()
    case.b = torch.zeros_like(case.b)
    found = case.curvature.solve((case.rows @ case.g).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(case.answer(0.0), found, rtol=1e-12, atol=1e-12)


def test_the_smallest_eigenvalue_is_that_of_the_dense_matrix_and_makes_it_positive() -> None:
    case = Instance(damping=5.0)
    lowest = smallest_eigenvalue(case.rows @ case.rows.mT, case.weights)
    identity = torch.eye(PARAMETERS, dtype=FLOAT64)
    undamped = case.dense - case.damping * identity
    torch.testing.assert_close(lowest, torch.linalg.eigvalsh(undamped)[0])
    assert torch.linalg.eigvalsh(case.dense)[0] < 0
    assert torch.linalg.eigvalsh(undamped - 1.1 * lowest * identity)[0] > 0


def test_pairs_of_one_time_or_of_two_episodes_count_nothing() -> None:
    weight = torch.randn(2, 4, dtype=FLOAT64, generator=generator())
    episode = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    pairs = pair_weights(weight, episode)
    for i in range(2):
        for t in range(4):
            for other in range(4):
                together = t != other and episode[i, t] == episode[i, other]
                expected = 0.5 * (weight[i, t] + weight[i, other]) if together else 0.0
                assert pairs[i, t, other] == expected


# two steps of s' ~ N(s + a + phi_t, 1), a ~ N(theta, 1), s = 0, r = -0.05 s'^2: J is quadratic
SCALE, THETA, PHI = 0.05, 0.3, (0.2, -0.4)
HESSIAN = -2 * SCALE * torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=FLOAT64)
MIXED = -2 * SCALE * torch.tensor([3.0, 2.0], dtype=FLOAT64)


def chain(samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Advantages of the transitions, their scores, and the actions' scores, (samples, 2)."""
    noise = torch.randn(4, samples, dtype=FLOAT64, generator=generator(seed))
    acted, made = noise[:2], noise[2:]
    before = acted[0] + THETA + PHI[0]
    first = before + made[0]
    second = first + acted[1] + THETA + PHI[1]
    last = second + made[1]
    # value of the first state and action: s_2 = s_1 + (noise of variance 2) + theta + phi_2
    tail = (before + THETA + PHI[1]).square() + 3
    q0 = -SCALE * (before.square() + 1 + tail)
    q1 = -SCALE * (second.square() + 1)
    returns = -SCALE * torch.stack([first.square() + last.square(), last.square()])
    return (returns - torch.stack([q0, q1])).mT, made.mT, acted.mT


def test_second_derivatives_of_a_return_are_what_the_scores_estimate() -> None:
    """4e6 samples; the Fisher form has the exact pairs of two times and nothing of one time."""
    whole, pairs, mixed = (torch.zeros(2, 2, dtype=FLOAT64) for _ in range(3))
    chunks, size = 4, 1_000_000
    for seed in range(chunks):
        advantage, scores, acted = chain(size, seed)
        pushed = advantage * scores
        # grad^2 l = -1 of a step's own parameter
        whole += pushed.mT @ scores / size - torch.diag(advantage.mean(0))
        weights = pair_weights(advantage, torch.zeros_like(advantage))
        assert weights.diagonal(dim1=1, dim2=2).abs().max() == 0
        pairs += torch.einsum("nt,nts,ns->ts", scores, weights, scores) / size
        mixed[0] += (acted.sum(1, keepdim=True) * pushed).mean(0)
    whole, pairs, mixed = whole / chunks, pairs / chunks, mixed / chunks
    torch.testing.assert_close(whole, HESSIAN, rtol=0, atol=0.01)
    torch.testing.assert_close(mixed[0], MIXED, rtol=0, atol=0.01)
    torch.testing.assert_close(pairs, HESSIAN - torch.diag(HESSIAN.diagonal()), rtol=0, atol=0.01)


def test_the_stackelberg_gradient_is_the_total_derivative_through_the_followers_optimum() -> None:
    """A model s' ~ N(phi . (s, a, 1), 1) with quadratic reward; expectations in closed form."""
    multiplier, state, damping = 3.0, 0.7, 0.5
    start = torch.tensor([0.4, -0.2, 0.1], dtype=FLOAT64)  # the pre-trained model
    features = torch.tensor([state, 0.0, 1.0], dtype=FLOAT64)

    def value(theta: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        """E of -(s' - 1)^2 - 0.1 a^2 for a ~ N(theta, 1)."""
        mean = phi[0] * state + phi[1] * theta + phi[2]
        return -((mean - 1).square() + phi[1].square() + 1) - 0.1 * (theta.square() + 1)

    def divergence(phi: torch.Tensor, theta: float = 0.5) -> torch.Tensor:
        """E of KL on data whose actions are N(0.5, 4)."""
        change = phi - start
        mean = change @ (features + torch.tensor([0.0, theta, 0.0], dtype=FLOAT64))
        return 0.5 * (mean.square() + 4 * change[1].square() + 5 * change.square().sum())

    def lagrangian(theta: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        return value(theta, phi) + multiplier * divergence(phi)

    def best(theta: torch.Tensor) -> torch.Tensor:
        phi = start.clone()
        for _ in range(20):
            grad = torch.func.grad(lagrangian, 1)(theta, phi)
            phi = phi - torch.linalg.solve(torch.func.hessian(lagrangian, 1)(theta, phi), grad)
        return phi

    theta, step = torch.tensor(0.3, dtype=FLOAT64), 1e-4
    ends = (value(theta + sign * step, best(theta + sign * step)) for sign in (1, -1))
    expected = (next(ends) - next(ends)) / (2 * step)
    phi = best(theta)
    g = torch.func.grad(value, 1)(theta, phi)
    mixed = torch.func.jacfwd(torch.func.grad(value, 1), 0)(theta, phi)
    identity = torch.eye(3, dtype=FLOAT64)
    hessian = torch.func.hessian(lagrangian, 1)(theta, phi)
    # rows of P are the parameters' own directions
    curvature = Curvature(identity, hessian - damping * identity, torch.tensor(damping))
    answer = curvature.solve(g.unsqueeze(1)).squeeze(1)
    found = torch.func.grad(value, 0)(theta, phi) - mixed @ answer
    assert abs(float(found - expected)) < 1e-6
    assert abs(float(torch.func.grad(value, 0)(theta, phi) - expected)) > 1e-2
