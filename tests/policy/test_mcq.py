"""MCQ's losses against row loops, and what belongs to it alone."""

from functools import partial

import pytest
import torch

from offlinerlkit_romi.policy import MCQPolicy
from offlinerlkit_romi.policy.model_free import mcq
from tests.reference import mcq as reference
from tests.reference import sac
from tests.support.policies import FLOAT64, make_batch, make_policy
from tests.support.scripted import draw, twin

make_mcq = partial(make_policy, MCQPolicy)

ROWS, CODE, SAMPLES = 5, 4, 3


def test_behaviour_loss_and_its_gradient_equal_the_row_loop() -> None:
    policy, batch = make_mcq(), make_batch(ROWS)
    noise, vae = draw(torch.Generator().manual_seed(1), ROWS, CODE), policy.behavior_policy
    fast = mcq.vae_loss(vae, batch["observations"], batch["actions"], noise)
    slow = reference.vae_loss(vae, batch, noise)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    params = list(vae.parameters())
    grads = torch.autograd.grad(fast, params), torch.autograd.grad(slow, params)
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_mild_values_equal_the_row_loop() -> None:
    policy, obs = make_mcq(), make_batch(ROWS)["observations"]
    codes = draw(torch.Generator().manual_seed(1), ROWS, SAMPLES, CODE)
    args = policy.behavior_policy, policy.target_critics
    fast = mcq.mild_value(*args, obs, codes)
    slow = [reference.mild_value(*args, row, code) for row, code in zip(obs, codes, strict=True)]
    torch.testing.assert_close(fast[:, 0], torch.tensor(slow, dtype=FLOAT64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("lmbda", [0.7, 1.0])
def test_an_update_reports_the_row_loops_losses(lmbda: float) -> None:
    """Behaviour model first: the critics already see its step."""
    policy, batch = make_mcq(lmbda=lmbda, gamma=0.9), make_batch(ROWS)
    source, vae, actor = twin(policy.generator), policy.behavior_policy, policy.actor
    noise = draw(source, ROWS, CODE)
    behaviour = reference.vae_loss(vae, batch, noise).item()
    stepped = make_mcq(lmbda=lmbda)
    stepped._update_behavior(batch)
    noise, alpha = draw(source, *batch["actions"].shape), float(policy._alpha)
    ys = sac.critic_targets(actor, policy.target_critics, batch, noise, alpha, 0.9)
    codes = draw(source, 2 * ROWS, SAMPLES, CODE)
    noise = draw(source, 2 * ROWS, 2)
    states = torch.cat([batch["observations"], batch["next_observations"]])
    others = [
        (
            s,
            sac.squashed_sample(actor, s, noise[i])[0].detach(),
            reference.mild_value(stepped.behavior_policy, policy.target_critics, s, codes[i]),
        )
        for i, s in enumerate(states)
    ]
    expected = [reference.critic_loss(c, batch, ys, others, lmbda).item() for c in policy.critics]
    metrics = policy.update(batch)
    assert metrics["loss/behavior_policy"].item() == pytest.approx(behaviour, rel=1e-10)
    actual = [metrics[f"loss/critic{i}"].item() for i in (1, 2)]
    assert actual == pytest.approx(expected, rel=1e-9)


def test_critic_gradient_equals_the_row_loop() -> None:
    policy, batch = make_mcq(), make_batch(ROWS)
    other = make_batch(2 * ROWS, seed=9)
    target = batch["rewards"]
    others = mcq.OutOfData(other["observations"], other["actions"], other["rewards"])
    fast, q = mcq.critic_loss(policy.critic1, batch, target, others, 0.7)
    rows = list(zip(*others[:2], others.value[:, 0].tolist(), strict=True))
    slow = reference.critic_loss(policy.critic1, batch, target[:, 0].tolist(), rows, 0.7)
    params = list(policy.critic1.parameters())
    grads = torch.autograd.grad(fast, params), torch.autograd.grad(slow, params)
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(q, policy.critic1(batch["observations"], batch["actions"]))


def test_the_actors_dropout_draws_from_the_policys_generator() -> None:
    first, second = make_mcq(dropout=0.4).train(), make_mcq(dropout=0.4).train()
    torch.manual_seed(0)
    left = first.update(make_batch(ROWS))
    torch.manual_seed(1)
    right = second.update(make_batch(ROWS))
    assert all(torch.equal(left[name], right[name]) for name in left)
    obs = make_batch(ROWS)["observations"]
    assert not torch.equal(first.actor(obs).mean, first.actor(obs).mean)
    first.eval()
    assert torch.equal(first.actor(obs).mean, first.actor(obs).mean)


def test_dropout_keeps_the_mean_and_the_share() -> None:
    dropout = make_mcq(dropout=0.3).train().actor.backbone.model[2]
    out = dropout(torch.ones(100_000, dtype=FLOAT64))
    assert set(out.unique().tolist()) == {0.0, 1 / 0.7}
    assert out.mean().item() == pytest.approx(1, abs=0.01)


def test_all_weight_on_the_data_is_sac() -> None:
    policy, batch = make_mcq(lmbda=1.0), make_batch(ROWS)
    noise = draw(torch.Generator().manual_seed(1), 2 * ROWS, SAMPLES, CODE)
    states = torch.cat([batch["observations"], batch["next_observations"]])
    value = mcq.mild_value(policy.behavior_policy, policy.target_critics, states, noise)
    others = mcq.OutOfData(states, torch.cat([batch["actions"]] * 2), value)
    loss, q = mcq.critic_loss(policy.critic1, batch, batch["rewards"], others, 1.0)
    assert loss.item() == pytest.approx((q - batch["rewards"]).square().mean().item())
