"""RORL's losses, perturbations and order of steps against loops over states and members."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch

from offlinerlkit_romi.policy import EDACPolicy, RORLPolicy
from offlinerlkit_romi.policy.model_free.rorl import (
    asymmetric_square,
    pessimism_loss,
    policy_smoothing_loss,
    value_smoothing_loss,
)
from tests.reference import edac, rorl, sac
from tests.support.policies import FLOAT64, make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin

make_rorl = partial(make_policy, RORLPolicy, num_critics=3)

N, ROWS, MEMBERS = 4, 5, 3
OFF = {"beta_policy": 0.0, "beta_q": 0.0, "beta_ood": 0.0}
WIDE = {"eps_policy": 0.3, "eps_q": 0.3, "eps_ood": 0.3, "n_perturbed": N}


class Recording(RORLPolicy):
    """Remembers its perturbations."""

    def _shifts(self, eps: float, obs: torch.Tensor) -> torch.Tensor:
        shifts = super()._shifts(eps, obs)
        self.__dict__.setdefault("seen", []).append(shifts)
        return shifts


def uniform(source: torch.Generator, eps: float, rows: int = 1) -> torch.Tensor:
    """What the policy draws next, (n, rows, S)."""
    return 2 * eps * (torch.rand(N, rows, 3, dtype=FLOAT64, generator=source) - 0.5)


def assert_same(fast: torch.Tensor, loop: torch.Tensor, module: torch.nn.Module) -> None:
    """Value and gradient; the loop's has the graph of every perturbed state."""
    assert fast.item() == pytest.approx(loop.item(), rel=1e-12)
    params = list(module.parameters())
    left, right = (torch.autograd.grad(x, params, retain_graph=True) for x in (fast, loop))
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [1, ROWS], ids=["shared", "per row"])
def test_the_policys_smoothing_and_its_gradient_equal_the_loop(rows: int) -> None:
    policy, obs = make_rorl(), make_batch(ROWS)["observations"]
    shifts = uniform(twin(policy.generator), 0.3, rows)
    fast, largest = policy_smoothing_loss(policy.actor, obs, shifts)
    assert_same(fast, rorl.policy_smoothing(policy.actor, obs, shifts), policy.actor)
    alone = [
        rorl.policy_smoothing(policy.actor, obs[b : b + 1], shifts[:, b % rows : b % rows + 1])
        for b in range(ROWS)
    ]
    assert largest.item() == pytest.approx(max(x.item() for x in alone), rel=1e-10)


@pytest.mark.parametrize("rows", [1, ROWS], ids=["shared", "per row"])
def test_the_values_smoothing_and_its_gradient_equal_the_loop(rows: int) -> None:
    policy, batch = make_rorl(), make_batch(ROWS)
    shifts = uniform(twin(policy.generator), 0.3, rows)
    qs = policy.critics(batch["observations"], batch["actions"])
    fast, _ = value_smoothing_loss(policy.critics, batch, qs, shifts, 0.2)
    assert_same(fast, rorl.value_smoothing(policy.critics, batch, shifts, 0.2), policy.critics)


def test_pessimism_and_its_gradient_equal_the_loop_and_leave_the_actor_alone() -> None:
    policy, obs = make_rorl(), make_batch(ROWS)["observations"]
    source = twin(policy.generator)
    told = policy.actor, obs, uniform(source, 0.3), draw(source, N, ROWS, 2), 1.7
    fast, spread = pessimism_loss(policy.critics, *told)
    assert_same(fast, rorl.pessimism(policy.critics, *told), policy.critics)
    grads = torch.autograd.grad(fast, list(policy.actor.parameters()), allow_unused=True)
    assert set(grads) == {None} and spread.item() > 0


def test_pessimism_pushes_every_value_down_by_its_share_of_the_spread() -> None:
    actor, obs = make_rorl().actor, make_batch(ROWS)["observations"]
    qs = torch.randn(MEMBERS, N * ROWS, 1, dtype=FLOAT64, requires_grad=True)
    loss, _ = pessimism_loss(
        lambda *_: qs, actor, obs, torch.zeros(N, 1, 3), torch.zeros(N, ROWS, 2), 1.7
    )
    (grad,) = torch.autograd.grad(loss, qs)
    expected = 2 * 1.7 * qs.std(0) / (MEMBERS * ROWS * N)
    assert (expected > 0).all()
    torch.testing.assert_close(grad, expected.expand_as(qs), rtol=1e-12, atol=0)


def test_a_rise_costs_four_times_a_fall() -> None:
    costs = asymmetric_square(torch.tensor([1.0, -1.0, 0.0, 2.0]), 0.2)
    assert costs.tolist() == pytest.approx([0.8, 0.2, 0.0, 3.2])


def test_a_perturbed_value_meets_its_own_rows_value() -> None:
    """Values that tell member and row: any other pair would differ by ten or more."""
    batch, shifts = make_batch(ROWS), torch.tensor([[[0.1]], [[0.3]], [[-0.9]]], dtype=FLOAT64)
    batch["observations"] = 10.0 * torch.arange(ROWS, dtype=FLOAT64).unsqueeze(1)

    def critics(obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return 1000.0 * torch.arange(MEMBERS).view(-1, 1, 1) + obs

    qs = critics(batch["observations"], batch["actions"])
    loss, rise = value_smoothing_loss(critics, batch, qs, shifts, 0.2)
    assert loss.item() == pytest.approx(0.2 * 0.9**2)  # 0.162, above 0.8 * 0.3^2 = 0.072
    assert rise.item() == pytest.approx(-0.9)


@pytest.mark.parametrize("noise, rows", [("shared", 1), ("per_row", ROWS)])
def test_perturbations_lie_in_the_box_and_are_fresh_for_every_loss(noise, rows) -> None:
    std = torch.tensor([1.0, 2.0, 0.5])
    eps = {"eps_policy": 0.3, "eps_q": 0.2, "eps_ood": 0.1}
    policy = make_policy(Recording, num_critics=3, n_perturbed=200, noise=noise, obs_std=std, **eps)
    policy.update(make_batch(ROWS))
    assert [tuple(shifts.shape) for shifts in policy.seen] == [(200, rows, 3)] * 3
    units = [x / width / std for x, width in zip(policy.seen, eps.values(), strict=True)]
    assert all(0.95 < u.abs().max() <= 1 and abs(u.mean()) < 0.1 for u in units)
    assert not torch.allclose(units[0], units[1]) and not torch.allclose(units[1], units[2])


def test_a_box_of_no_width_leaves_smoothness_out_and_pessimism_at_the_data() -> None:
    policy = make_policy(Recording, num_critics=3, eps_policy=0.0, eps_q=0.0, eps_ood=0.0)
    metrics = policy.update(make_batch(ROWS))
    assert len(policy.seen) == 1 and not policy.seen[0].any()
    assert {name for name in metrics if "smooth" in name} == set()
    assert metrics["loss/q_ood"] > 0


def test_without_its_terms_an_update_is_sac_ns_to_the_bit() -> None:
    options: dict[str, Any] = {"num_critics": 3, "dtype": torch.float32}
    ours = make_policy(RORLPolicy, **options, **OFF)
    sac_n = make_policy(EDACPolicy, **options, eta=0.0, deterministic_backup=False)
    for seed in range(2):
        batch = make_batch(ROWS, seed=seed, dtype=torch.float32)
        assert ours.update(batch) == sac_n.update(batch)
    for left, right in zip(ours.parameters(), sac_n.parameters(), strict=True):
        assert torch.equal(left, right)


def test_two_of_the_releases_updates_equal_the_steps_by_hand() -> None:
    """All losses are taken before the first step."""
    tau, gamma, beta_policy, beta_q, beta_ood, lam, decay = 0.1, 0.9, 0.7, 0.6, 0.5, 1.5, 0.1
    policy = make_rorl(
        tau=tau, gamma=gamma, beta_policy=beta_policy, beta_q=beta_q, beta_ood=beta_ood,
        lambda_ood=lam, lambda_ood_decay=decay, release=True, **WIDE,
    )  # fmt: skip
    copy, source = deepcopy(policy), twin(policy.generator)
    log_alpha = torch.zeros(1, dtype=FLOAT64, requires_grad=True)
    nets = {"actor": copy.actor, "critics": copy.critics}
    optims = {name: plain_adam(net.parameters()) for name, net in nets.items()}
    alpha_optim, alpha = plain_adam([log_alpha]), 1.0
    for seed in range(2):
        batch = make_batch(ROWS, seed=seed)
        metrics = policy.update(batch)
        obs, noise = batch["observations"], draw(source, ROWS, 2)
        actor_loss = edac.actor_loss(copy.actor, copy.critics, obs, noise, alpha)
        log_probs = [
            sac.squashed_sample(copy.actor, o, z)[1].item() for o, z in zip(obs, noise, strict=True)
        ]
        smooth = rorl.policy_smoothing(copy.actor, obs, uniform(source, 0.3))
        draws = draw(source, ROWS, 2)
        ys = edac.targets(copy.actor, copy.critics_old, batch, draws, alpha, gamma)
        q_smooth = rorl.value_smoothing(copy.critics, batch, uniform(source, 0.3), 0.2)
        told = uniform(source, 0.3), draw(source, N, ROWS, 2), lam
        q_ood = rorl.pessimism(copy.critics, copy.actor, obs, *told)
        bellman = edac.bellman_loss(copy.critics, batch, ys)
        losses = {
            "actor": actor_loss + beta_policy * smooth,
            "critics": bellman + beta_q * q_smooth + beta_ood * q_ood,
        }
        for name, loss in losses.items():
            assert metrics[f"loss/{name}"].item() == pytest.approx(loss.item(), rel=1e-8)
            params = list(nets[name].parameters())
            for p, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
                p.grad = grad
        log_alpha.grad = None
        sac.alpha_loss(log_alpha, log_probs, -2.0).backward()
        for optim in (alpha_optim, *optims.values()):
            optim.step()
        alpha, lam = log_alpha.exp().item(), lam - decay
        with torch.no_grad():
            for p, q in zip(copy.critics_old.parameters(), copy.critics.parameters(), strict=True):
                p.copy_((1 - tau) * p + tau * q)
    for name in ("actor", "critics", "critics_old"):
        assert_same_parameters(getattr(policy, name), getattr(copy, name), 1e-8)
    assert policy._alpha.item() == pytest.approx(alpha, rel=1e-9)


def test_the_releases_temperature_has_no_bound() -> None:
    for release in (True, False):
        policy = make_rorl(release=release, **OFF)
        with torch.no_grad():
            policy._log_alpha.fill_(1.0)
        alpha = policy.update(make_batch(ROWS))["alpha"].item()
        assert alpha == pytest.approx(2.718, rel=0.01) if release else alpha == 1.0


@pytest.mark.parametrize("steps, left", [(3, 3.0 - 3e-6), (50, 2.99996)])
def test_lambda_falls_by_its_decay_to_its_least(steps: int, left: float) -> None:
    told = {"lambda_ood": 3.0, "lambda_ood_min": 2.99996, "lambda_ood_decay": 1e-6}
    policy, batch = make_rorl(n_perturbed=1, **told), make_batch(ROWS)
    seen = [policy.update(batch)["rorl/lambda"].item() for _ in range(steps)]
    assert seen[:2] == pytest.approx([3.0, 3.0 - 1e-6], abs=1e-12)
    assert policy.training_state()["lambda_ood"].item() == pytest.approx(left, abs=1e-12)
    off = make_rorl(beta_ood=0.0, **told)
    off.update(batch)
    assert off.training_state()["lambda_ood"].item() == 3.0


def test_what_needs_several_critics_is_refused_with_one() -> None:
    with pytest.raises(ValueError, match="two critics"):
        make_rorl(num_critics=1)
    with pytest.raises(ValueError, match="noise is one of shared, per_row"):
        make_rorl(noise="gaussian")
    make_policy(RORLPolicy, num_critics=1, **OFF).update(make_batch(ROWS))


def trained(**betas: float) -> Any:
    """A policy after 100 updates of the same seed."""
    options: dict[str, Any] = {"num_critics": 3, "dtype": torch.float32, "rate": 1e-2}
    policy = make_policy(RORLPolicy, **options, **WIDE, **OFF | betas)
    batch = make_batch(64, seed=1, dtype=torch.float32)
    for _ in range(100):
        policy.update(batch)
    return policy


def test_smoothing_makes_policy_and_values_smoother_where_they_did_not_learn() -> None:
    batch = make_batch(64, seed=99, dtype=torch.float32)
    obs, shifts = batch["observations"], uniform(torch.Generator().manual_seed(5), 0.3).float()

    def changes(policy: Any) -> tuple[float, float]:
        qs = policy.critics(obs, batch["actions"])
        value, _ = value_smoothing_loss(policy.critics, batch, qs, shifts, 0.2)
        return policy_smoothing_loss(policy.actor, obs, shifts)[0].item(), value.item()

    plain = changes(trained())
    assert changes(trained(beta_policy=10.0))[0] < 0.5 * plain[0]
    assert changes(trained(beta_q=10.0))[1] < 0.7 * plain[1]
