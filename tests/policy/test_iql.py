"""IQL's losses, order of steps and actions against row loops and steps by hand."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch

from offlinerlkit_romi.policy import IQLPolicy
from offlinerlkit_romi.policy.model_free.iql import actor_loss, value_loss
from offlinerlkit_romi.policy.model_free.sac import backup, critic_losses
from tests.reference import iql
from tests.support.policies import make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin

make_iql = partial(make_policy, IQLPolicy)

SLOW = ("critic_q1_old", "critic_q2_old")


def slow(policy):
    return policy.critic_q1_old, policy.critic_q2_old


def q_of(policy, batch) -> torch.Tensor:
    values = [c(batch["observations"], batch["actions"]) for c in slow(policy)]
    return torch.minimum(*values).detach()


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_value_loss_and_gradient_equal_the_row_loop(expectile: float) -> None:
    policy, batch = make_iql(), make_batch(8, seed=3)
    fast = value_loss(policy.critic_v(batch["observations"]), q_of(policy, batch), expectile)
    loop = iql.value_loss(policy.critic_v, slow(policy), batch, expectile)
    params = list(policy.critic_v.parameters())
    assert fast.item() == pytest.approx(loop.item(), rel=1e-10)
    for left, right in zip(
        torch.autograd.grad(fast, params), torch.autograd.grad(loop, params), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_an_expectile_near_one_finds_the_largest_value() -> None:
    """Of equally likely values the minimiser is their mean at 0.5 and nears the maximum at 1."""
    values = torch.tensor([[-1.0], [0.0], [4.0]], dtype=torch.float64)
    grid = torch.linspace(-2, 5, 7001, dtype=torch.float64)

    def minimiser(expectile: float) -> float:
        losses = [value_loss(v.expand_as(values), values, expectile) for v in grid]
        return grid[torch.stack(losses).argmin()].item()

    assert minimiser(0.5) == pytest.approx(1.0, abs=1e-3)
    assert 3.9 < minimiser(0.99) < 4.0


@pytest.mark.parametrize("terminals", [0.3, 2.0, -1.0], ids=["mixed", "all terminal", "none"])
def test_critic_losses_equal_the_row_loop(terminals: float) -> None:
    policy, batch = make_iql(), make_batch(8, seed=3, terminals=terminals)
    critics = policy.critic_q1, policy.critic_q2
    next_v = policy.critic_v(batch["next_observations"]).detach()
    *fast, q1 = critic_losses(critics, batch, backup(batch, next_v, 0.9))
    loops = [iql.critic_loss(critic, policy.critic_v, batch, 0.9) for critic in critics]
    assert [x.item() for x in fast] == pytest.approx([x.item() for x in loops], rel=1e-10)
    alone = policy.critic_q1(batch["observations"], batch["actions"])
    torch.testing.assert_close(q1, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 3.0, 50.0], ids=["flat", "usual", "clipped"])
def test_actor_loss_and_gradient_equal_the_row_loop(temperature: float) -> None:
    policy, batch = make_iql(), make_batch(8, seed=3)
    with torch.no_grad():  # advantages of either sign
        for critic in slow(policy):
            critic.last.bias.add_(0.6)
    advantage = (q_of(policy, batch) - policy.critic_v(batch["observations"])).detach()
    if temperature == 50.0:
        assert (temperature * advantage > np.log(100)).any()
    fast = actor_loss(policy.actor, batch, advantage, temperature)
    loop = iql.actor_loss(policy.actor, policy.critic_v, slow(policy), batch, temperature)
    params = list(policy.actor.parameters())
    assert fast.item() == pytest.approx(loop.item(), rel=1e-10)
    for left, right in zip(
        torch.autograd.grad(fast, params), torch.autograd.grad(loop, params), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_three_updates_equal_the_steps_by_hand() -> None:
    policy = make_iql(tau=0.1, gamma=0.9, expectile=0.7, temperature=3.0)
    copy = deepcopy(policy)
    names = ("actor", "critic_q1", "critic_q2", "critic_v")
    optims = {name: plain_adam(getattr(copy, name).parameters()) for name in names}

    def step(name: str, loss: torch.Tensor) -> None:
        optims[name].zero_grad()
        loss.backward()
        optims[name].step()

    for seed in range(3):
        batch = make_batch(4, seed=seed)
        policy.update(batch)
        step("critic_v", iql.value_loss(copy.critic_v, slow(copy), batch, 0.7))
        for name in ("critic_q1", "critic_q2"):
            step(name, iql.critic_loss(getattr(copy, name), copy.critic_v, batch, 0.9))
        step("actor", iql.actor_loss(copy.actor, copy.critic_v, slow(copy), batch, 3.0))
        with torch.no_grad():
            for name in ("critic_q1", "critic_q2"):
                online = getattr(copy, name).parameters()
                for p, q in zip(getattr(copy, f"{name}_old").parameters(), online, strict=True):
                    p.copy_(0.9 * p + 0.1 * q)
    for name in (*names, *SLOW):
        assert_same_parameters(getattr(policy, name), getattr(copy, name))


def test_actions_are_the_mean_or_a_sample_clipped_to_the_box() -> None:
    policy = make_iql()
    obs = make_batch(64)["observations"].numpy()
    dist = policy.actor(obs)
    mean = policy.select_action(obs, deterministic=True)
    np.testing.assert_array_equal(mean, dist.loc.detach().numpy())
    noise = draw(twin(policy.generator), 64, 2)
    sampled = policy.select_action(obs)
    raw = (dist.loc + dist.scale * noise).detach()
    np.testing.assert_array_equal(sampled, raw.clamp(-1, 1).numpy())
    assert (raw.abs() > 1).any()


def test_learn_reports_the_kits_keys_as_floats() -> None:
    metrics = make_iql().learn(make_batch(8))
    assert {"loss/actor", "loss/q1", "loss/q2", "loss/v"} <= metrics.keys()
    assert all(type(value) is float for value in metrics.values())
