"""COMBO's critic loss, mixed batches and rollouts against row loops."""

from copy import deepcopy

import pytest
import torch

from offlinerlkit_romi.policy import COMBOPolicy
from tests.reference import combo, sac
from tests.support.policies import make_batch, make_box, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, proposal_draws, twin

TAU, GAMMA = 0.1, 0.9

PARTS = {"real": make_batch(3, seed=1), "fake": make_batch(4, seed=2)}
MIXED = {name: torch.cat([PARTS["real"][name], PARTS["fake"][name]]) for name in PARTS["real"]}


def make_combo(**kwargs) -> COMBOPolicy:
    kwargs.setdefault("with_lagrange", False)
    return make_policy(COMBOPolicy, tau=TAU, gamma=GAMMA, **kwargs)


@pytest.mark.parametrize("compat", ["paper", "kit"])
@pytest.mark.parametrize("rho_s", ["mix", "model"])
def test_an_update_of_the_critics_equals_the_steps_by_hand(compat: str, rho_s: str) -> None:
    policy = make_combo(compat=compat, rho_s=rho_s, cql_weight=2.0, auto_alpha=False)
    copy, source = deepcopy(policy), twin(policy.generator)
    metrics = policy.update(PARTS)
    loss, _ = sac.actor_loss(
        copy.actor, copy.critics, MIXED["observations"], draw(source, 7, 2), float(copy._alpha)
    )
    optim = plain_adam(copy.actor.parameters())
    loss.backward()
    optim.step()
    ys = sac.critic_targets(copy.actor, copy.target_critics, MIXED, draw(source, 7, 2), 0.0, GAMMA)
    draws = proposal_draws(source, 7 if rho_s == "mix" else 4)
    like = dict(weight=2.0, temperature=1.0, like_kit=compat == "kit")
    for i, critic in enumerate(copy.critics, start=1):
        loss = combo.critic_loss(
            critic, copy.actor, PARTS["real"], PARTS["fake"], ys, rho_s, **draws, **like
        )
        assert metrics[f"loss/critic{i}"].item() == pytest.approx(loss.item(), rel=1e-6)
        optim = plain_adam(critic.parameters())
        optim.zero_grad()
        loss.backward()
        optim.step()
        assert_same_parameters(getattr(policy, f"critic{i}"), critic, 1e-6)
    assert_same_parameters(policy.actor, copy.actor, 1e-6)


def test_values_are_reported_by_origin() -> None:
    policy = make_combo()
    q = policy.critic1(MIXED["observations"], MIXED["actions"]).detach()
    metrics = policy.update(PARTS)
    assert metrics["q/real"].item() == pytest.approx(q[:3].mean().item(), rel=1e-12)
    assert metrics["q/model"].item() == pytest.approx(q[3:].mean().item(), rel=1e-12)


def test_rollouts_follow_the_policy() -> None:
    policy = make_combo()
    obs, source = make_batch(20)["observations"], twin(policy.generator)
    made, info = policy.rollout(obs, 2)
    dist = policy.actor(obs)
    assert torch.equal(made["actions"][:20], dist.rsample(dist.noise(source))[0].detach())
    assert info["num_transitions"] == len(made["obss"]) == 40


def test_uniform_rollouts_fill_the_box() -> None:
    policy = make_combo(uniform_rollout=True, action_space=make_box(low=-0.5, high=0.25))
    actions = policy.rollout(make_batch(500)["observations"], 2)[0]["actions"]
    assert actions.min() >= -0.5 and actions.max() <= 0.25
    assert actions.min() < -0.48 and actions.max() > 0.23
    assert actions.mean().item() == pytest.approx(-0.125, abs=0.03)


def test_an_unknown_rho_is_refused() -> None:
    with pytest.raises(ValueError, match="rho_s"):
        make_combo(rho_s="data")
