"""ROMI's values, sets and losses equal their row-by-row float64 restatements."""

import pytest
import torch

from offlinerlkit_romi.policy import ROMIPolicy
from offlinerlkit_romi.policy.model_based.romi import ball, relative_set, robust_target
from tests.reference import ensemble, romi
from tests.support.policies import FLOAT64, generator, make_batch, make_policy
from tests.support.scripted import draw, twin

ROWS, DRAWS, XI = 8, 3, 0.4
CASES = {
    "mixed": dict(rows=ROWS, terminals=0.5),
    "all terminal": dict(rows=4, terminals=2.0),
    "one row": dict(rows=1, terminals=-1.0),
}


def make_romi(**kwargs) -> ROMIPolicy:
    policy = make_policy(ROMIPolicy, seed=6, xi=XI, num_perturbations=DRAWS, **kwargs)
    torch.manual_seed(7)
    with torch.no_grad():  # V uses the slow critics: make them differ from the online ones
        for p in [*policy.critic1_old.parameters(), *policy.critic2_old.parameters()]:
            p.add_(0.3 * torch.randn_like(p))
    return policy


def outer_noise(policy: ROMIPolicy, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the next outer loss will draw: member noise (E, B, D), candidate noise (N, B, S)."""
    members = draw(twin(policy.dynamics.generator), 3, rows, 4)
    return members, draw(twin(policy.generator), DRAWS, rows, 3)


def test_value_is_the_lesser_slow_critic_at_the_mode() -> None:
    policy, obs = make_romi(), make_batch(ROWS)["observations"]
    slow = torch.stack([romi.value(policy, row) for row in obs])
    torch.testing.assert_close(policy.value(obs)[:, 0], slow, rtol=1e-10, atol=0)


def test_relative_set_equals_its_formula() -> None:
    next_obs = make_batch(4)["next_observations"]
    points = relative_set(next_obs, XI, DRAWS, generator(1))
    noise = draw(generator(1), DRAWS, 4, 3)
    for n in range(DRAWS):
        for i in range(4):
            expected = romi.relative_point(next_obs[i], noise[n, i], XI)
            torch.testing.assert_close(points[n, i], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_ball_points_stay_within_the_radius_and_fill_it_uniformly(dims: int) -> None:
    count = 20_000
    centre = torch.full((1, dims), 3.0, dtype=FLOAT64)
    points = ball(centre, XI, count, generator(2))
    offsets = (points[:, 0] - centre) / XI
    lengths = offsets.norm(dim=-1)
    assert lengths.max() <= 1 + 1e-12
    # uniform in volume: a ball of half the volume holds half the points; directions have no bias
    for share in (0.1, 0.5, 0.9):
        inside = (lengths <= share ** (1 / dims)).double().mean().item()
        assert abs(inside - share) < 5 * (share * (1 - share) / count) ** 0.5
    assert offsets.mean(0).abs().max() < 5 / count**0.5


def test_robust_target_is_the_least_candidate_and_never_above_the_state_itself() -> None:
    policy, next_obs = make_romi(), make_batch(ROWS)["next_observations"]
    noise = draw(generator(3), DRAWS, ROWS, 3)
    drawn = relative_set(next_obs, 2.0, DRAWS, generator(3))
    target = robust_target(policy.value, next_obs, drawn).detach()
    assert (target <= policy.value(next_obs)).all()
    for i in range(ROWS):
        others = [romi.relative_point(next_obs[i], z[i], 2.0) for z in noise]
        assert target[i].item() == pytest.approx(
            romi.robust_target(policy, next_obs[i], others), rel=1e-10
        )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_outer_loss_and_its_model_gradient_equal_the_row_loop(case) -> None:
    policy, batch = make_romi(), make_batch(**case, seed=4)
    noise = outer_noise(policy, case["rows"])
    params = policy.dynamics.parameters
    fast = policy._outer_rows(batch).mean()
    slow = romi.robust_value_loss(policy, batch, *noise, XI)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    if not slow.requires_grad:
        assert case["terminals"] > 1 and fast.item() == 0
        return
    pairs = zip(torch.autograd.grad(fast, params), torch.autograd.grad(slow, params), strict=True)
    for left, right in pairs:
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_terminal_rows_contribute_nothing_to_the_outer_loss() -> None:
    batch = make_batch(ROWS, terminals=0.5, seed=4)
    ended = batch["terminals"].squeeze(-1).bool()
    assert 0 < ended.sum() < ROWS
    other = {name: value.clone() for name, value in batch.items()}
    other["next_observations"][ended] += 100
    rows, moved = (make_romi()._outer_rows(b) for b in (batch, other))
    assert (rows[ended] == 0).all() and torch.equal(rows, moved)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_reward_loss_and_its_gradient_equal_the_row_loop(case) -> None:
    policy, batch = make_romi(), make_batch(**case, seed=5)
    params = policy.dynamics.parameters
    fast = policy.dynamics.reward_loss(batch)
    slow = ensemble.reward_loss(policy.dynamics, batch)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    pairs = zip(torch.autograd.grad(fast, params), torch.autograd.grad(slow, params), strict=True)
    for left, right in pairs:
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("coefficient", [0.001, None], ids=["regularised", "bare"])
def test_weighted_inner_loss_and_gradient_equal_the_row_loop(case, coefficient) -> None:
    policy, batch = make_romi(), make_batch(**case, seed=5)
    weights = policy._weights(batch)
    record = policy.dynamics.weighted_pass(batch, weights, coefficient)
    slow = ensemble.weighted_loss(
        policy.dynamics, batch, weights.detach()[:, 0].tolist(), coefficient
    )
    assert record.loss.item() == pytest.approx(slow.item(), rel=1e-10)
    for left, right in zip(
        record.grads, torch.autograd.grad(slow, policy.dynamics.parameters), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight_input", ["sas", "sa"])
def test_weights_equal_their_formula(weight_input: str) -> None:
    policy, batch = make_romi(weight_input=weight_input), make_batch(ROWS)
    slow = torch.stack([romi.weight(policy.weighting_net, batch, i) for i in range(ROWS)])
    torch.testing.assert_close(policy._weights(batch)[:, 0], slow, rtol=1e-12, atol=0)


def test_alive_outer_rows_do_not_depend_on_the_draws_of_other_rows() -> None:
    """Rows are independent: the loss of a batch is the mean of its rows' own losses."""
    policy, batch = make_romi(), make_batch(ROWS, seed=4)
    members, candidates = outer_noise(policy, ROWS)
    rows = policy._outer_rows(batch)[:, 0]
    for i in range(ROWS):
        next_obs = batch["next_observations"][i]
        points = [romi.relative_point(next_obs, z[i], XI) for z in candidates]
        m = romi.robust_target(policy, next_obs, points)
        expected = romi.robust_value_row(policy, batch, i, members[:, i], m)
        assert rows[i].item() == pytest.approx(expected.item(), rel=1e-10)
