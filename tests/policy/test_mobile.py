"""MOBILE's penalty, targets and losses against row loops, and its switches."""

from functools import partial

import pytest
import torch

from offlinerlkit_romi.policy import MOBILEPolicy
from offlinerlkit_romi.policy.model_based import mobile
from tests.reference import mobile as reference
from tests.support.policies import FLOAT64, make_batch, make_dynamics, make_policy
from tests.support.scripted import draw, twin

make_mobile = partial(make_policy, MOBILEPolicy)

REAL, FAKE, SAMPLES, ELITES = 2, 3, 3, 3


def parts() -> dict[str, dict[str, torch.Tensor]]:
    return {"real": make_batch(REAL, seed=1), "fake": make_batch(FAKE, seed=2)}


def penalties(policy, obs: torch.Tensor, action: torch.Tensor) -> list[float]:
    """By the row loop, with the draws that the policy is about to make."""
    noise = draw(twin(policy.dynamics.generator), SAMPLES, ELITES, len(obs), 4)
    action_noise = draw(twin(policy.generator), SAMPLES, ELITES, len(obs), 2)
    return [
        reference.penalty(policy, obs[i], action[i], noise[:, :, i], action_noise[:, :, i])
        for i in range(len(obs))
    ]


@pytest.mark.parametrize("critics", [2, 3])
def test_penalty_equals_the_row_loop(critics: int) -> None:
    policy, batch = make_mobile(num_critics=critics), make_batch(4)
    args = batch["observations"], batch["actions"]
    expected = torch.tensor(penalties(policy, *args), dtype=FLOAT64)
    torch.testing.assert_close(policy.compute_lcb(*args)[:, 0], expected, rtol=1e-9, atol=1e-12)


SWITCHES = {
    "soft": dict(),
    "deterministic": dict(deterministic_backup=True),
    "max": dict(max_q_backup=True),
    "clamped": dict(clamp_targets=True),
}


@pytest.mark.parametrize("options", SWITCHES.values(), ids=SWITCHES.keys())
def test_critic_loss_of_an_update_equals_the_row_loop(options) -> None:
    policy, batch = make_mobile(penalty_coef=0.8, gamma=0.9, **options), parts()
    mixed = {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in batch["real"]}
    spreads = penalties(policy, batch["fake"]["observations"], batch["fake"]["actions"])
    source = twin(policy.generator)
    draw(source, SAMPLES, ELITES, FAKE, 2)
    rows = REAL + FAKE
    noise = draw(source, rows, 10, 2) if options.get("max_q_backup") else draw(source, rows, 2)
    alpha = 0.0 if options.get("deterministic_backup") else float(policy._alpha)
    targets = []
    for i, spread in enumerate([0.0] * REAL + spreads):
        next_obs = mixed["next_observations"][i]
        if options.get("max_q_backup"):
            value = reference.max_next_value(policy, next_obs, noise[i])
        else:
            value = reference.next_value(policy, next_obs, noise[i], alpha)
        y = mixed["rewards"][i, 0].item() - 0.8 * spread
        y += 0.9 * (1 - mixed["terminals"][i, 0].item()) * value
        targets.append(max(y, 0.0) if options.get("clamp_targets") else y)
    expected = reference.critic_loss(policy.critics, mixed, targets).item()
    metrics = policy.update(batch)
    assert metrics["loss/critic"].item() == pytest.approx(expected, rel=1e-9)
    assert metrics["penalty"].item() == pytest.approx(sum(spreads) / FAKE, rel=1e-9)
    assert min(targets) < 0 or options.get("clamp_targets")


def test_losses_and_gradients_equal_the_row_loop() -> None:
    policy, batch = make_mobile(num_critics=3), make_batch(5)
    noise = draw(torch.Generator().manual_seed(4), 5, 2)
    obs = batch["observations"]
    pairs = [
        (
            mobile.critic_loss(policy.critics, batch, batch["rewards"])[0],
            reference.critic_loss(policy.critics, batch, batch["rewards"][:, 0].tolist()),
            policy.critics,
        ),
        (
            mobile.actor_loss(policy.actor, policy.critics, obs, noise, 0.3)[0],
            reference.actor_loss(policy.actor, policy.critics, obs, noise, 0.3),
            policy.actor,
        ),
    ]
    for fast, slow, module in pairs:
        assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
        params = list(module.parameters())
        grads = torch.autograd.grad(fast, params), torch.autograd.grad(slow, params)
        for left, right in zip(*grads, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


def test_only_the_kit_clamps_targets_unless_told_otherwise() -> None:
    batch = make_batch(6, terminals=2.0)
    batch["rewards"] = -batch["rewards"].abs()
    zero = torch.zeros_like(batch["rewards"])
    for options, clamped in [
        ({}, False),
        ({"compat": "kit"}, True),
        ({"clamp_targets": True}, True),
        ({"compat": "kit", "clamp_targets": False}, False),
    ]:
        target = make_mobile(**options)._target(batch, zero)
        assert torch.equal(target, zero if clamped else batch["rewards"])


def test_dataset_rows_are_not_penalised_under_either_arithmetic() -> None:
    batch = make_batch(5)
    for compat in ("paper", "kit"):
        penalty = make_mobile(compat=compat)._penalty(batch, 2)
        assert bool((penalty[:2] == 0).all()) and bool((penalty[2:] > 0).all())


@pytest.mark.parametrize(("real", "fake"), [(0, 4), (4, 0)])
def test_batches_of_one_kind_alone_are_taken(real: int, fake: int) -> None:
    policy, batch = make_mobile(), make_batch(4)
    rows = {"real": real, "fake": fake}
    made = {kind: {k: v[:n] for k, v in batch.items()} for kind, n in rows.items()}
    metrics = policy.update(made)
    assert all(bool(value.isfinite().all()) for value in metrics.values())
    assert ("penalty" in metrics) == (fake > 0)


def test_rollouts_are_those_of_the_model() -> None:
    policy, obs = make_mobile(), make_batch(4)["observations"]
    made, info = policy.rollout(obs, 3)
    assert info["num_transitions"] == 12 and made["actions"].shape == (12, 2)
    assert torch.equal(made["obss"][:4], obs)
    assert torch.equal(made["obss"][4:8], made["next_obss"][:4])


def test_a_single_elite_is_refused() -> None:
    lone = make_dynamics(members=3, elites=1, weighted=False)
    policy = make_mobile()
    args = policy.actor, policy.critics, policy.actor_optim, policy.critics_optim
    with pytest.raises(ValueError, match="two elites"):
        type(policy)(lone, *args)
