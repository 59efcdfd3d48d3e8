"""SAC's losses equal their row-by-row float64 restatements."""

import pytest
import torch

from offlinerlkit_romi.policy import SACPolicy
from offlinerlkit_romi.policy.model_free.sac import actor_loss, critic_target
from offlinerlkit_romi.policy.soft_policy import alpha_loss
from tests.reference import sac
from tests.support.policies import FLOAT64, make_batch, make_policy

CASES = {
    "mixed": dict(rows=8),
    "all terminal": dict(rows=5, terminals=2.0),
    "no terminal": dict(rows=5, terminals=-1.0),
    "one row": dict(rows=1),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def batch(request) -> dict[str, torch.Tensor]:
    return make_batch(**request.param, seed=3)


@pytest.fixture
def policy() -> SACPolicy:
    policy = make_policy(SACPolicy, seed=4)
    with torch.no_grad():  # the slow critics start as copies; here they differ
        for p in [*policy.critic1_old.parameters(), *policy.critic2_old.parameters()]:
            p.add_(0.3 * torch.randn_like(p))
    return policy


def noise_like(actions: torch.Tensor) -> torch.Tensor:
    return torch.randn(
        actions.shape, generator=torch.Generator().manual_seed(11), dtype=actions.dtype
    )


def test_critic_target_equals_the_row_loop(policy: SACPolicy, batch) -> None:
    noise = noise_like(batch["actions"])
    fast = critic_target(policy.actor, policy.target_critics, batch, noise, 0.37, 0.9)
    slow = sac.critic_targets(policy.actor, policy.target_critics, batch, noise, 0.37, 0.9)
    torch.testing.assert_close(fast[:, 0], torch.tensor(slow, dtype=FLOAT64), rtol=1e-10, atol=0)


def test_terminal_rows_are_worth_their_reward_alone(policy: SACPolicy) -> None:
    batch = make_batch(4, terminals=2.0)
    noise = noise_like(batch["actions"])
    target = critic_target(policy.actor, policy.target_critics, batch, noise, 0.2, 0.99)
    assert torch.equal(target, batch["rewards"])


def test_critic_losses_equal_the_row_loop(policy: SACPolicy, batch) -> None:
    before = policy.generator.get_state()
    alpha = float(policy._alpha)
    noise = policy._noise(batch["actions"])
    targets = sac.critic_targets(policy.actor, policy.target_critics, batch, noise, alpha, 0.99)
    expected = [sac.critic_loss(critic, batch, targets).item() for critic in policy.critics]
    policy.generator.set_state(before)
    metrics = policy.update(batch)
    actual = [metrics["loss/critic1"].item(), metrics["loss/critic2"].item()]
    assert actual == pytest.approx(expected, rel=1e-10)


def test_actor_and_temperature_losses_equal_the_row_loop(policy: SACPolicy, batch) -> None:
    noise = noise_like(batch["actions"])
    obs = batch["observations"]
    fast, log_prob = actor_loss(policy.actor, policy.critics, obs, noise, 0.37)
    slow, slow_log_probs = sac.actor_loss(policy.actor, policy.critics, obs, noise, 0.37)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    log_alpha = torch.tensor([-0.3], dtype=FLOAT64, requires_grad=True)
    fast_alpha = alpha_loss(log_alpha, log_prob, -2.0)
    slow_alpha = sac.alpha_loss(log_alpha, slow_log_probs, -2.0)
    assert fast_alpha.item() == pytest.approx(slow_alpha.item(), rel=1e-10)


def test_actor_gradient_equals_the_row_loop(policy: SACPolicy, batch) -> None:
    noise, obs = noise_like(batch["actions"]), batch["observations"]
    params = list(policy.actor.parameters())
    fast = torch.autograd.grad(
        actor_loss(policy.actor, policy.critics, obs, noise, 0.37)[0], params
    )
    slow = torch.autograd.grad(
        sac.actor_loss(policy.actor, policy.critics, obs, noise, 0.37)[0], params
    )
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_temperature_is_clamped_to_one_but_its_logarithm_is_not() -> None:
    policy = make_policy(SACPolicy, seed=4)
    with torch.no_grad():
        policy._log_alpha.fill_(0.5)
    policy.update(make_batch(4))
    assert policy._alpha.item() == 1.0
    assert policy._log_alpha.item() > 0.4


def test_fixed_temperature_enters_the_loss_and_stays() -> None:
    policy = make_policy(SACPolicy, auto_alpha=False, alpha=0.125)
    metrics = policy.update(make_batch(4))
    assert policy._alpha.item() == 0.125
    assert "alpha" not in metrics and "loss/alpha" not in metrics
