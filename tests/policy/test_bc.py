"""Cloning's loss and step."""

from functools import partial

import numpy as np
import pytest
import torch

from offlinerlkit_romi.policy import BCPolicy
from offlinerlkit_romi.policy.model_free.bc import actor_loss
from tests.reference import td3 as reference
from tests.support.policies import make_batch, make_policy
from tests.support.scripted import assert_same_parameters, plain_adam

make_bc = partial(make_policy, BCPolicy)


def test_the_loss_and_its_gradient_equal_the_row_loop() -> None:
    policy, batch = make_bc(), make_batch(8)
    fast = actor_loss(policy.actor, batch["observations"], batch["actions"])
    slow = reference.cloning_loss(policy.actor, batch)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    params = list(policy.actor.parameters())
    grads = torch.autograd.grad(fast, params), torch.autograd.grad(slow, params)
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_three_updates_equal_the_steps_by_hand() -> None:
    policy, by_hand = make_bc(), make_bc().actor
    optim = plain_adam(by_hand.parameters())
    for step in range(3):
        batch = make_batch(4, seed=step)
        loss = reference.cloning_loss(by_hand, batch)
        assert policy.learn(batch)["loss/actor"] == pytest.approx(loss.item(), rel=1e-9)
        optim.zero_grad()
        loss.backward()
        optim.step()
    assert_same_parameters(policy.actor, by_hand)


def test_actions_are_the_same_with_and_without_exploration() -> None:
    policy, obs = make_bc(), make_batch(4)["observations"].numpy()
    assert policy.select_action(obs).shape == (4, 2)
    np.testing.assert_array_equal(
        policy.select_action(obs), policy.select_action(obs, deterministic=True)
    )


def test_cloning_learns_a_linear_rule() -> None:
    policy = make_bc()
    first, batch = None, make_batch(64)
    batch["actions"] = torch.tanh(batch["observations"][:, :2])
    for _ in range(300):
        loss = policy.update(batch)["loss/actor"].item()
        first = loss if first is None else first
    assert loss < 0.3 * first
