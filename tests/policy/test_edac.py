"""EDAC's losses, targets and order of steps against loops over members and rows."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from offlinerlkit_romi.policy import EDACPolicy
from offlinerlkit_romi.policy.model_free.edac import (
    actor_loss,
    bellman_loss,
    critic_target,
    diversity_loss,
)
from tests.reference import edac, sac
from tests.support.policies import FLOAT64, make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin

make_edac = partial(make_policy, EDACPolicy)

TAU, GAMMA = 0.1, 0.9


def tiled(policy, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions per member, and the members' values at them."""
    tile = (policy._num_critics, -1, -1)
    actions = batch["actions"].expand(tile).detach().requires_grad_()
    return actions, policy.critics(batch["observations"].expand(tile), actions)


def assert_same_gradients(fast: torch.Tensor, loop: torch.Tensor, module: torch.nn.Module) -> None:
    params = list(module.parameters())
    left, right = (torch.autograd.grad(x, params, allow_unused=True) for x in (fast, loop))
    for a, b, p in zip(left, right, params, strict=True):
        a, b = (torch.zeros_like(p) if g is None else g for g in (a, b))
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("members", [2, 5])
def test_diversity_and_its_gradient_equal_every_pairs_cosine(members: int) -> None:
    """The closed form |sum g|^2 - sum |g|^2 against autograd, one member and one pair at a time."""
    policy, batch = make_edac(num_critics=members), make_batch(6, seed=3)
    actions, qs = tiled(policy, batch)
    fast, loop = diversity_loss(qs, actions), edac.diversity_loss(policy.critics, batch)
    assert fast.item() == pytest.approx(loop.item(), rel=1e-9)
    assert_same_gradients(fast, loop, policy.critics)


def test_diversity_is_greatest_where_all_members_agree() -> None:
    policy, batch = make_edac(num_critics=3, seed=1), make_batch(6, seed=3)
    assert diversity_loss(*reversed(tiled(policy, batch))).item() < 3
    with torch.no_grad():
        for p in policy.critics.parameters():
            p.copy_(p[:1].expand_as(p))
    # N (N - 1) pairs of cosine one over N - 1
    assert diversity_loss(*reversed(tiled(policy, batch))).item() == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.37])
def test_targets_equal_the_row_loop(alpha: float) -> None:
    policy, batch = make_edac(), make_batch(6, seed=3)
    noise = draw(twin(policy.generator), 6, 2)
    fast = critic_target(policy.actor, policy.critics_old, batch, noise, alpha, GAMMA)
    loop = edac.targets(policy.actor, policy.critics_old, batch, noise, alpha, GAMMA)
    torch.testing.assert_close(fast[:, 0], torch.tensor(loop, dtype=FLOAT64), rtol=1e-10, atol=0)


def test_max_q_targets_equal_the_row_loop() -> None:
    policy, batch = make_edac(), make_batch(6, seed=3)
    noise = draw(twin(policy.generator), 5, 6, 2)
    fast = critic_target(policy.actor, policy.critics_old, batch, noise, 0.37, GAMMA)
    loop = edac.targets(policy.actor, policy.critics_old, batch, noise, 0.37, GAMMA)
    torch.testing.assert_close(fast[:, 0], torch.tensor(loop, dtype=FLOAT64), rtol=1e-10, atol=0)


def test_actor_and_bellman_losses_equal_the_row_loop() -> None:
    policy, batch = make_edac(), make_batch(6, seed=3)
    noise, obs = draw(twin(policy.generator), 6, 2), batch["observations"]
    fast, _ = actor_loss(policy.actor, policy.critics, obs, noise, 0.37)
    loop = edac.actor_loss(policy.actor, policy.critics, obs, noise, 0.37)
    assert fast.item() == pytest.approx(loop.item(), rel=1e-10)
    assert_same_gradients(fast, loop, policy.actor)
    ys = torch.linspace(-1, 1, 6, dtype=FLOAT64)
    fast = bellman_loss(policy.critics(obs, batch["actions"]), ys.unsqueeze(-1))
    loop = edac.bellman_loss(policy.critics, batch, ys.tolist())
    assert fast.item() == pytest.approx(loop.item(), rel=1e-10)
    assert_same_gradients(fast, loop, policy.critics)


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_two_updates_equal_the_steps_by_hand(eta: float) -> None:
    policy = make_edac(tau=TAU, gamma=GAMMA, eta=eta, deterministic_backup=False)
    copy, source = deepcopy(policy), twin(policy.generator)
    log_alpha = torch.zeros(1, dtype=FLOAT64, requires_grad=True)
    optims = [plain_adam(x) for x in (copy.actor.parameters(), copy.critics.parameters())]
    alpha_optim, alpha = plain_adam([log_alpha]), 1.0

    def step(loss: torch.Tensor, optim: torch.optim.Optimizer) -> None:
        optim.zero_grad()
        loss.backward()
        optim.step()

    for seed in range(2):
        batch = make_batch(4, seed=seed)
        before = batch["actions"].requires_grad
        policy.update(batch)
        assert batch["actions"].requires_grad == before  # the kit's batch asks for gradients then
        noise, obs = draw(source, 4, 2), batch["observations"]
        log_probs = [
            sac.squashed_sample(copy.actor, o, z)[1].item() for o, z in zip(obs, noise, strict=True)
        ]
        step(edac.actor_loss(copy.actor, copy.critics, obs, noise, alpha), optims[0])
        step(sac.alpha_loss(log_alpha, log_probs, -2.0), alpha_optim)
        alpha = min(log_alpha.exp().item(), 1.0)
        ys = edac.targets(copy.actor, copy.critics_old, batch, draw(source, 4, 2), alpha, GAMMA)
        loss = edac.bellman_loss(copy.critics, batch, ys)
        if eta:
            loss = loss + eta * edac.diversity_loss(copy.critics, batch)
        step(loss, optims[1])
        with torch.no_grad():
            for p, q in zip(copy.critics_old.parameters(), copy.critics.parameters(), strict=True):
                p.copy_((1 - TAU) * p + TAU * q)
    for name in ("actor", "critics", "critics_old"):
        assert_same_parameters(getattr(policy, name), getattr(copy, name), 1e-8)
    assert policy._alpha.item() == pytest.approx(alpha, rel=1e-9)


def test_max_q_backup_draws_ten_actions_per_next_state() -> None:
    policy, batch = make_edac(max_q_backup=True, gamma=GAMMA), make_batch(4)
    # (B, R, A) -> (R, B, A): a row's ten actions are drawn together
    noise = draw(twin(policy.generator), 4, 10, 2).transpose(0, 1)
    expected = critic_target(policy.actor, policy.critics_old, batch, noise, 0.0, GAMMA)
    assert torch.equal(policy._target(batch), expected)


def test_one_critic_has_nothing_to_be_diverse_from() -> None:
    with pytest.raises(ValueError, match="two critics"):
        make_edac(num_critics=1)
    make_edac(num_critics=1, eta=0.0).update(make_batch(4))
