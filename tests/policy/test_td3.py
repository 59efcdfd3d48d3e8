"""TD3's and TD3+BC's losses, delay, noise and targets against row loops and steps by hand."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.policy import TD3BCPolicy, TD3Policy
from offlinerlkit_romi.policy.model_free import td3, td3bc
from offlinerlkit_romi.utils.noise import GaussianNoise
from tests.reference import sac
from tests.reference import td3 as reference
from tests.support.policies import FLOAT64, make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin


def make_td3(cls: type = TD3BCPolicy, **options: Any) -> Any:
    return make_policy(cls, **options)


KINDS = pytest.mark.parametrize("cls", [TD3Policy, TD3BCPolicy])


@pytest.mark.parametrize(("max_action", "compat"), [(1.0, "paper"), (2.0, "paper"), (2.0, "kit")])
def test_critic_losses_equal_the_row_loop(max_action: float, compat: str) -> None:
    policy = make_td3(max_action=max_action, compat=compat, gamma=0.9)
    batch = make_batch(8, seed=3)
    noise = 2 * draw(twin(policy.generator), *batch["actions"].shape)
    policy._noise = lambda like: noise  # twice as wide, so that some of it is clipped
    unit = max_action if compat == "paper" else 1.0
    targets = reference.critic_targets(policy, batch, noise, 0.9, max_action, unit)
    expected = [sac.critic_loss(c, batch, targets).item() for c in (policy.critic1, policy.critic2)]
    q = policy.critic1(batch["observations"], batch["actions"]).mean().item()
    metrics = policy.update(batch)
    actual = [metrics[f"loss/critic{i}"].item() for i in (1, 2)]
    assert actual == pytest.approx(expected, rel=1e-10)
    assert metrics["q/real"].item() == pytest.approx(q, rel=1e-12)


def test_actor_losses_and_gradients_equal_the_row_loop() -> None:
    policy, batch = make_td3(), make_batch(8, seed=3)
    nets = policy.actor, policy.critic1
    pairs = [
        (
            td3bc.actor_loss(*nets, batch["observations"], batch["actions"], 2.5),
            reference.td3bc_actor_loss(*nets, batch, 2.5),
        ),
        (td3.actor_loss(*nets, batch["observations"]), -reference.mean_q(*nets, batch)),
    ]
    params = list(policy.actor.parameters())
    for fast, slow in pairs:
        assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
        grads = torch.autograd.grad(fast, params), torch.autograd.grad(slow, params)
        for left, right in zip(*grads, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


class ByHand:
    """TD3+BC with torch's per-tensor Adam; the actor and all targets at every third update."""

    def __init__(self, policy: TD3BCPolicy, freq: int) -> None:
        self.generator, self.freq = twin(policy.generator), freq
        for name in ("actor", "critic1", "critic2"):
            setattr(self, name, deepcopy(getattr(policy, name)))
            setattr(self, f"{name}_old", deepcopy(getattr(policy, f"{name}_old")))
        nets = (self.actor, self.critic1, self.critic2)
        self.optims = [plain_adam(net.parameters()) for net in nets]

    def update(self, step: int, batch: dict[str, torch.Tensor]) -> None:
        noise = draw(self.generator, *batch["actions"].shape)
        targets = reference.critic_targets(self, batch, noise, 0.9, 1.0, 1.0)
        for critic, optim in zip((self.critic1, self.critic2), self.optims[1:], strict=True):
            self.descend(sac.critic_loss(critic, batch, targets), optim)
        if step % self.freq == 0:
            loss = reference.td3bc_actor_loss(self.actor, self.critic1, batch, 2.5)
            self.descend(loss, self.optims[0])
            with torch.no_grad():
                for name in ("actor", "critic1", "critic2"):
                    slow, fast = getattr(self, f"{name}_old"), getattr(self, name)
                    for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
                        p.copy_(0.9 * p + 0.1 * q)

    @staticmethod
    def descend(loss: torch.Tensor, optim: torch.optim.Optimizer) -> None:
        optim.zero_grad()
        loss.backward()
        optim.step()


def test_five_updates_equal_the_steps_by_hand() -> None:
    policy = make_td3(update_actor_freq=3, tau=0.1, gamma=0.9)
    by_hand = ByHand(policy, 3)
    for step in range(5):
        batch = make_batch(4, seed=step)
        policy.update(batch)
        by_hand.update(step, batch)
    for name in ("actor", "critic1", "critic2", "actor_old", "critic1_old", "critic2_old"):
        assert_same_parameters(getattr(policy, name), getattr(by_hand, name))


@KINDS
def test_the_actors_loss_is_reported_until_the_next(cls) -> None:
    policy = make_td3(cls)
    losses = [policy.update(make_batch(4, seed=i))["loss/actor"] for i in range(4)]
    assert losses[0] == losses[1] != losses[2] == losses[3]
    assert policy.training_state()["updates"] == {"updates": 4}


@KINDS
def test_a_restored_counter_keeps_the_delay(cls) -> None:
    policy = make_td3(cls)
    policy.training_state()["updates"].load_state_dict({"updates": 1})
    assert not policy.steps_actor_next
    before = [p.clone() for p in policy.actor.parameters()]
    policy.update(make_batch(4))
    assert all(map(torch.equal, before, policy.actor.parameters()))
    assert policy.steps_actor_next


def test_the_weight_on_values_undoes_their_scale() -> None:
    policy, batch = make_td3(), make_batch(8)
    args = batch["observations"], batch["actions"], 2.5
    before = td3bc.actor_loss(policy.actor, policy.critic1, *args)
    with torch.no_grad():
        for p in policy.critic1.last.parameters():
            p.mul_(100)
    assert td3bc.actor_loss(policy.actor, policy.critic1, *args).item() == pytest.approx(
        before.item()
    )


@KINDS
def test_exploration_adds_noise_within_the_box(cls) -> None:
    noise = GaussianNoise(sigma=5.0, generator=np.random.default_rng(0))
    policy = make_td3(cls, exploration_noise=noise)
    obs = make_batch(50)["observations"].numpy()
    action, plain = policy.select_action(obs), policy.select_action(obs, deterministic=True)
    assert np.abs(action).max() == 1.0 and (action != plain).any()
    assert isinstance(make_td3(cls).exploration_noise, GaussianNoise)


def test_slow_copies_never_drop_units() -> None:
    policy = make_td3(dropout=0.5).train()
    obs = make_batch(4)["observations"]
    assert torch.equal(policy.actor_old(obs), policy.actor_old(obs))
    assert not torch.equal(policy.actor(obs), policy.actor(obs))
    policy.eval()
    assert torch.equal(policy.actor(obs), policy.actor(obs))


def test_terminal_rows_are_worth_their_reward_alone() -> None:
    policy, batch = make_td3(), make_batch(4, terminals=2.0)
    noise = torch.zeros(4, 2, dtype=FLOAT64)
    target = td3.critic_target(policy.actor_old, policy.target_critics, batch, noise, 0.9, 1.0)
    assert torch.equal(target, batch["rewards"])
