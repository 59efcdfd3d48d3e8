"""CQL's conservative loss, targets, multiplier and order of steps against row loops."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from offlinerlkit_romi.policy import CQLPolicy
from offlinerlkit_romi.policy.model_free.cql import conservative_loss, max_q_target
from tests.reference import cql, sac
from tests.support.policies import FLOAT64, make_batch, make_box, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, proposal_draws, twin

R, TAU, GAMMA = 3, 0.1, 0.9


def make_cql(**kwargs) -> CQLPolicy:
    kwargs.setdefault("with_lagrange", False)
    return make_policy(CQLPolicy, tau=TAU, gamma=GAMMA, **kwargs)


@pytest.mark.parametrize("compat", ["paper", "kit"])
@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (5.0, 0.3)])
@pytest.mark.parametrize("high", [1.0, 0.4])
def test_conservative_losses_and_gradients_equal_brute_force(
    compat: str, weight: float, temperature: float, high: float
) -> None:
    policy = make_cql(
        compat=compat,
        cql_weight=weight,
        temperature=temperature,
        action_space=make_box(low=-high, high=high),
    )
    batch = make_batch(5, seed=3)
    draws = proposal_draws(twin(policy.generator), 5, -high, high)
    proposals = policy._propose(batch)
    for critic in policy.critics:
        zero = torch.zeros_like(batch["rewards"])
        _, fast, _ = policy._terms(critic, batch, zero, proposals, None)
        loop = cql.conservative_loss(
            *(critic, policy.actor, batch, batch),
            **draws,
            weight=weight,
            temperature=temperature,
            like_kit=compat == "kit",
        )
        assert fast.item() == pytest.approx(loop.item(), rel=1e-10)
        params = list(critic.parameters())
        for left, right in zip(
            torch.autograd.grad(fast, params), torch.autograd.grad(loop, params), strict=True
        ):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_the_kits_sum_over_three_values_lies_below_the_papers_by_log_r_and_more() -> None:
    values = draw(torch.Generator().manual_seed(0), 3, 10, 50)
    nothing = torch.zeros(50, 1, dtype=FLOAT64)
    kit = conservative_loss(values, nothing, 1.0, 1.0)
    paper = conservative_loss(values.flatten(0, 1), nothing, 1.0, 1.0)
    assert paper - kit > np.log(10)
    same = conservative_loss(torch.zeros(30, 50), nothing, 1.0, 1.0).item()
    assert same == pytest.approx(np.log(30), rel=1e-6)


def test_max_q_targets_equal_the_row_loop() -> None:
    policy, batch = make_cql(), make_batch(6, seed=3)
    noise = draw(twin(policy.generator), R, 6, 2)
    fast = max_q_target(policy.actor, policy.target_critics, batch, noise, GAMMA)
    loop = cql.max_q_targets(policy.actor, policy.target_critics, batch, noise, GAMMA)
    torch.testing.assert_close(fast[:, 0], torch.tensor(loop, dtype=FLOAT64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_backup_leaves_the_entropy_out_unless_asked(deterministic: bool) -> None:
    policy = make_cql(deterministic_backup=deterministic, auto_alpha=False, alpha=0.37)
    batch = make_batch(6, seed=3)
    noise = draw(twin(policy.generator), 6, 2)
    alpha = 0.0 if deterministic else 0.37
    loop = sac.critic_targets(policy.actor, policy.target_critics, batch, noise, alpha, GAMMA)
    assert policy._target(batch)[:, 0].tolist() == pytest.approx(loop, rel=1e-6)


@pytest.mark.parametrize("compat", ["paper", "kit"])
@pytest.mark.parametrize("with_lagrange", [False, True])
def test_two_updates_equal_the_steps_by_hand(compat: str, with_lagrange: bool) -> None:
    policy = make_cql(
        compat=compat, with_lagrange=with_lagrange, lagrange_threshold=0.5, cql_alpha_lr=1e-2
    )
    copy, source = deepcopy(policy), twin(policy.generator)
    logs = [torch.zeros(1, dtype=FLOAT64, requires_grad=True) for _ in range(2)]
    log_alpha, log_lambda = logs
    optims = [plain_adam([log_alpha]), plain_adam([log_lambda], 1e-2)]
    nets = {net: plain_adam(net.parameters()) for net in (copy.actor, *copy.critics)}

    def step(loss: torch.Tensor, optim: torch.optim.Optimizer) -> None:
        optim.zero_grad()
        loss.backward()
        optim.step()

    alpha = 1.0
    for seed in range(2):
        batch = make_batch(4, seed=seed)
        metrics = policy.update(batch)
        noise = draw(source, 4, 2)
        loss, log_probs = sac.actor_loss(
            copy.actor, copy.critics, batch["observations"], noise, alpha
        )
        step(loss, nets[copy.actor])
        step(sac.alpha_loss(log_alpha, log_probs, -2.0), optims[0])
        alpha = log_alpha.exp().item()
        noise = draw(source, 4, 2)
        ys = sac.critic_targets(copy.actor, copy.target_critics, batch, noise, 0.0, GAMMA)
        draws = proposal_draws(source, 4)
        like = dict(weight=1.0, temperature=1.0, like_kit=compat == "kit")
        gaps = [
            cql.conservative_loss(critic, copy.actor, batch, batch, **draws, **like)
            for critic in copy.critics
        ]
        if with_lagrange:
            factor = log_lambda.exp().item()
            gaps = [gap - 0.5 for gap in gaps]
            step(cql.multiplier_loss(log_lambda, [gap.item() for gap in gaps]), optims[1])
            gaps = [factor * gap for gap in gaps]
            assert metrics["cql_alpha"].item() == pytest.approx(factor, rel=1e-9)
        losses = [sac.critic_loss(critic, batch, ys) for critic in copy.critics]
        for critic, td, gap in zip(copy.critics, losses, gaps, strict=True):
            step(td + gap, nets[critic])
        with torch.no_grad():
            for net, target in zip(copy.critics, copy.target_critics, strict=True):
                for p, q in zip(target.parameters(), net.parameters(), strict=True):
                    p.copy_((1 - TAU) * p + TAU * q)
    for name in ("actor", "critic1", "critic2", "critic1_old", "critic2_old"):
        assert_same_parameters(getattr(policy, name), getattr(copy, name))
    assert policy._alpha.item() == pytest.approx(alpha, rel=1e-9)
    assert policy.cql_log_alpha.item() == pytest.approx(log_lambda.item(), rel=1e-9)


def test_the_temperature_is_not_clamped() -> None:
    policy = make_cql()
    with torch.no_grad():
        policy._log_alpha.fill_(0.5)
    policy.update(make_batch(4))
    assert policy._alpha.item() == pytest.approx(policy._log_alpha.exp().item())
    assert policy._alpha.item() > 1.5


def test_the_kits_helpers_give_corrected_values() -> None:
    policy, batch = make_cql(compat="kit"), make_batch(4)
    obs, next_obs = batch["observations"], batch["next_observations"]
    noise = draw(twin(policy.generator), 4, 2)
    values = policy.calc_pi_values(next_obs, obs)
    random_values = policy.calc_random_values(obs, batch["actions"])
    for critic, value, random_value in zip(policy.critics, values, random_values, strict=True):
        for i in range(4):
            action, log_prob = sac.squashed_sample(policy.actor, next_obs[i], noise[i])
            expected = sac.q(critic, obs[i], action) - log_prob
            assert value[i].item() == pytest.approx(expected.item(), rel=1e-10)
            expected = sac.q(critic, obs[i], batch["actions"][i]) + 2 * np.log(2.0)
            assert random_value[i].item() == pytest.approx(expected.item(), rel=1e-10)


def test_no_gradient_of_the_critics_reaches_the_actor() -> None:
    policy, batch = make_cql(), make_batch(4)
    proposals = policy._propose(batch)
    assert not any(x.requires_grad for x in proposals)
