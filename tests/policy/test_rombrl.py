"""ROMBRL's losses against row loops, who moves what, its budget, and what its switches do."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch

from offlinerlkit_romi.dynamics.losses import gaussian_log_prob
from offlinerlkit_romi.dynamics.row_scores import members_predict
from offlinerlkit_romi.engine import apply_gradients
from offlinerlkit_romi.policy import ROMBRLPolicy
from offlinerlkit_romi.policy.model_based.on_policy import (
    advantages,
    adversarial_loss,
    leader_loss,
)
from tests.reference import ensemble
from tests.reference import rombrl as reference
from tests.support.policies import (
    FLOAT64,
    SMALL_GAME,
    generator,
    make_batch,
    make_buffer,
    make_dynamics,
    make_policy,
)
from tests.support.scripted import ScriptedBuffer, assert_same_parameters

BATCH = make_batch(8)
draw = partial(torch.randn, dtype=FLOAT64)


def make_rombrl(dtype=FLOAT64, dynamics=None, seed=0, **game) -> ROMBRLPolicy:
    options = {} if dynamics is None else {"dynamics": dynamics}
    game = replace(SMALL_GAME, **game)
    return make_policy(ROMBRLPolicy, game=game, dtype=dtype, seed=seed, **options)


def moved(policy: ROMBRLPolicy, size: float = 0.05) -> ROMBRLPolicy:
    """The same with its model a step away from the pre-trained one."""
    with torch.no_grad():
        for number, p in enumerate(policy.dynamics.model.parameters()):
            p.add_(size * draw(p.shape, generator=generator(number)).to(p))
    return policy


def assert_same_gradients(fast: torch.Tensor, slow: torch.Tensor, parameters) -> None:
    assert fast.item() == pytest.approx(slow.item(), rel=1e-9)
    parameters = list(parameters)
    grads = (torch.autograd.grad(x, parameters, allow_unused=True) for x in (fast, slow))
    for left, right in zip(*grads, strict=True):
        right = torch.zeros_like(left) if right is None else right
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-12)


# losses


def test_leader_loss_and_gradient_equal_the_row_loop() -> None:
    policy, rows = make_rombrl(), 12
    obs, raw = draw(rows, 3, generator=generator(1)), draw(rows, 2, generator=generator(2))
    push = draw(rows, 1, generator=generator(3))
    log_prob = policy.actor(obs).gaussian_log_prob(raw)
    old = log_prob.detach() + 0.4 * draw(rows, 1, generator=generator(4))
    fast, mask = leader_loss(log_prob, old, push, 0.2)
    assert 0 < mask.sum() < rows
    each = [reference.raw_log_density(policy.actor, *row) for row in zip(obs, raw, strict=True)]
    slow = reference.leader_loss(each, old[:, 0].tolist(), push[:, 0].tolist(), 0.2)
    assert_same_gradients(fast, slow, policy.actor.parameters())


@pytest.mark.parametrize("side", ["max", "min"])
@pytest.mark.parametrize("anchor", ["kl", "nll"])
def test_follower_loss_and_gradient_equal_the_row_loop(side: str, anchor: str) -> None:
    policy = make_rombrl(follower_clip=side, anchor=anchor, lambda_init=0.7)
    frozen = deepcopy(policy.dynamics.model)
    data, _ = policy.play(ScriptedBuffer([BATCH]))
    moved(policy)
    rows = {
        name: data[key].flatten(0, 1)
        for name, key in [("push", "model_push"), *((x, x) for x in ("inputs", "sample", "place"))]
    }
    rows["sample_log_prob"] = data["sample_log_prob"].flatten(0, 1)
    fast, told = policy.follower_loss(rows, BATCH)
    assert 0 < told["clip_share"] < 1
    slow = reference.follower_loss(policy, rows, BATCH, frozen)
    assert_same_gradients(fast, slow, policy.dynamics.model.parameters())


def test_advantages_equal_the_row_loop_and_nothing_leaks_over_a_terminal() -> None:
    steps, rows = 7, 4
    reward, value = draw(steps, rows, 1), draw(steps + 1, rows, 1)
    terminal = (torch.rand(steps, rows, 1, generator=generator(1)) < 0.3).double()
    assert 0 < terminal.sum() < terminal.numel()
    found = advantages(reward, terminal, value, 0.9, 0.8)
    for i in range(rows):
        columns = (x[:, i, 0].tolist() for x in (reward, terminal.bool(), value))
        expected = torch.tensor(reference.advantages(*columns, 0.9, 0.8), dtype=FLOAT64)
        torch.testing.assert_close(found[:, i, 0], expected)
    # whatever comes after an end changes nothing before it
    (step, row) = (terminal[..., 0][:-1] > 0).nonzero()[0].tolist()
    reward[step + 1 :], value[step + 1 :] = 1e6, -1e6
    again = advantages(reward, terminal, value, 0.9, 0.8)
    assert torch.equal(found[: step + 1, row], again[: step + 1, row])


@pytest.mark.parametrize(("ratio", "side", "pulls"), [(1.5, "max", False), (1.5, "min", True)])
def test_max_stops_an_adversary_that_has_profited(ratio: float, side: str, pulls: bool) -> None:
    assert bool(slope(ratio, side)) == pulls


@pytest.mark.parametrize(("side", "pulls"), [("max", True), ("min", False)])
def test_max_pulls_back_one_that_has_gone_the_wrong_way(side: str, pulls: bool) -> None:
    assert bool(slope(0.5, side) < 0) == pulls


def slope(ratio: float, side: str) -> float:
    """Of the loss in the log-density, for a transition of advantage -1."""
    log_prob = torch.tensor([[ratio]], dtype=FLOAT64).log().requires_grad_()
    zero = torch.zeros(1, 1, dtype=FLOAT64)
    loss, _ = adversarial_loss(log_prob, zero, zero - 1, 0.2, side)
    slow = reference.adversarial_loss([log_prob[0, 0]], [0.0], [-1.0], 0.2, side)
    assert_same_gradients(loss, slow, [log_prob])
    again, _ = adversarial_loss(log_prob, zero, zero - 1, 0.2, side)
    return torch.autograd.grad(again, log_prob)[0].item()


# trajectories


def ends_high(obs, action, next_obs) -> torch.Tensor:
    return next_obs[..., :1] > 0.5


def test_a_row_that_ends_starts_afresh_and_its_weights_with_it() -> None:
    dynamics = make_dynamics(weighted=False, members=4, elites=3, terminal_fn=ends_high)
    policy = make_rombrl(dynamics=dynamics, trajectory_length=9, model_horizon=9)
    data, seen = policy.play(ScriptedBuffer([BATCH]))
    terminal, age = data["terminal"], data["age"]
    assert 0 < seen["onpolicy/terminal_share"] < 1
    assert torch.equal(age[1:], (age[:-1] + 1) * (1 - terminal[:-1]))
    assert torch.equal(data["episode"][1:], data["episode"][:-1] + terminal[:-1])
    fresh = BATCH["observations"].expand(9, -1, -1)
    next_obs = data["obs"] + data["sample"][..., :-1]
    assert torch.equal(data["obs"][1:], torch.where(terminal[:-1] > 0, fresh[1:], next_obs[:-1]))
    undiscounted = make_rombrl(
        dynamics=make_dynamics(weighted=False, members=4, elites=3, terminal_fn=ends_high),
        **{"trajectory_length": 9, "model_horizon": 9, "discount_weights": "none"},
    )
    plain, _ = undiscounted.play(ScriptedBuffer([BATCH]))
    for name in ("leader_push", "model_push"):
        torch.testing.assert_close(data[name], 0.99**age * plain[name])


def test_recorded_densities_are_those_of_the_acting_networks() -> None:
    policy = make_rombrl()
    data, _ = policy.play(ScriptedBuffer([BATCH]))
    log_prob, old, _ = policy._acts(data, torch.arange(8))
    torch.testing.assert_close(log_prob.detach(), old)
    objective = policy._model_objective(data)
    expected = (data["model_push"] * data["sample_log_prob"]).mean()
    torch.testing.assert_close(objective.detach(), expected)


# who moves what


def copies(policy: ROMBRLPolicy) -> dict[str, list[torch.Tensor]]:
    nets = {"actor": policy.actor, "critics": policy.critics, "slow": policy.critics_old}
    nets |= {"model": policy.dynamics.model, "reference": policy._fixed["reference"]}
    return {k: [p.detach().clone() for p in net.parameters()] for k, net in nets.items()}


def changed(before: dict[str, list[torch.Tensor]], policy: ROMBRLPolicy) -> set[str]:
    after = copies(policy)
    return {k for k in before if any(map(lambda x, y: not torch.equal(x, y), before[k], after[k]))}


@pytest.mark.parametrize("mode", ["plain", "stackelberg", "kkt"])
def test_the_leader_moves_the_actor_and_the_follower_the_model(mode: str) -> None:
    policy, buffer = make_rombrl(leader_mode=mode), ScriptedBuffer([BATCH])
    data, _ = policy.play(buffer)
    before = copies(policy)
    stakes = policy._stakes(data, buffer)
    assert changed(before, policy) == set()
    policy._lead(data, stakes, buffer)
    assert changed(before, policy) == {"actor"}
    before = copies(policy)
    policy._follow(data, buffer)
    assert changed(before, policy) == {"model"}


def test_the_reference_is_the_model_of_the_first_round_and_never_moves() -> None:
    policy = moved(make_rombrl())  # fitted after it was built
    start = deepcopy(policy.dynamics.model)
    for _ in range(3):
        policy.update_dynamics(ScriptedBuffer([BATCH]))
    assert_same_parameters(policy._fixed["reference"], start, 0.0)


# switches


def test_a_correction_of_no_weight_is_the_plain_leader_to_the_bit() -> None:
    options = ({"leader_mode": "plain"}, {"correction_weight": 0.0})
    plain, other = (make_rombrl(dtype=torch.float32, **values) for values in options)
    for policy in (plain, other):
        buffer = make_buffer()
        for _ in range(2):
            policy.update_dynamics(buffer)
    assert_same_parameters(plain.actor, other.actor, 0.0)
    assert_same_parameters(plain.dynamics.model, other.dynamics.model, 0.0)


@pytest.mark.parametrize("dtype", [FLOAT64, torch.float32])
def test_without_an_adversary_the_model_stays_what_it_was_pre_trained_to(dtype) -> None:
    policy = make_rombrl(dtype=dtype, adversary=False)
    buffer = ScriptedBuffer([make_batch(8, dtype=dtype)])
    metrics = [policy.update_dynamics(buffer) for _ in range(5)][-1]
    assert metrics["constraint/kl"] < 1e-6 and metrics["follower/adv"] == 0
    assert "leader/correction_norm" not in metrics


def test_the_released_names_of_metrics_are_told_beside_ours_with_the_kits_arithmetic() -> None:
    policy = make_policy(ROMBRLPolicy, game=SMALL_GAME, compat="kit")
    metrics = policy.update_dynamics(ScriptedBuffer([BATCH]))
    assert metrics["dyn_update/dyn_all_loss"] == metrics["follower/loss"]
    assert metrics["actor_update/tot_dev_norm"] == metrics["leader/total_norm"]


def test_a_policy_batchs_model_rows_are_drawn_anew_where_asked() -> None:
    batch = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
    for resimulate in (True, False):
        seen: list[dict[str, torch.Tensor]] = []
        policy = make_rombrl(resimulate=resimulate)
        policy._update_critics = lambda mixed, n, seen=seen: seen.append(mixed) or {}
        policy.update(batch)
        same = torch.equal(seen[0]["next_observations"][4:], batch["fake"]["next_observations"])
        assert same != resimulate
        assert torch.equal(seen[0]["next_observations"][:4], batch["real"]["next_observations"])


def test_a_horizon_short_of_the_trajectories_is_for_the_plain_leader_alone() -> None:
    make_rombrl(leader_mode="plain", model_horizon=2)
    for mode, horizon in (("kkt", 2), ("stackelberg", 2), ("plain", 4)):
        with pytest.raises(ValueError, match="model_horizon"):
            make_rombrl(leader_mode=mode, model_horizon=horizon)


def test_own_data_rows_are_padded_into_whole_batches() -> None:
    """24 transitions in batches of 10: the third is filled up from the first rows."""
    policy, buffer = make_rombrl(follower_batch=10, dtype=torch.float32), make_buffer()
    policy.update_dynamics(buffer)
    order = policy._rows["order"].tolist()
    assert len(order) == 30 and sorted(order[:24]) == list(range(24)) and order[24:] == order[:6]


# second order


def dense_correction(policy: ROMBRLPolicy, data, rows, fisher) -> torch.Tensor:
    """J_tp q by one gradient per row and dense matrices, in the actor's parameters."""
    game, model = policy._game, policy.dynamics.model
    params = [p for p in model.parameters() if p.requires_grad]

    def score(inputs, place, sample) -> torch.Tensor:
        member = int(model.elites[place])
        predicted = ensemble.member_forward(model, member, inputs)
        grads = torch.autograd.grad(ensemble.gaussian_log_density(*predicted, sample), params)
        return torch.cat([g.flatten() for g in grads])

    steps, count = game.trajectory_length, len(rows)
    names = ("inputs", "place", "sample")
    g_rows = {
        (i, t): score(*(data[x][t, i] for x in names)) for i in rows.tolist() for t in range(steps)
    }
    weight = {key: data["model_push"][key[1], key[0], 0].item() / (steps * count) for key in g_rows}
    identity = torch.eye(len(next(iter(g_rows.values()))), dtype=FLOAT64)
    hessian = torch.zeros_like(identity)
    for i in rows.tolist():
        for t in range(steps):
            for other in range(steps):
                if t != other and data["episode"][t, i] == data["episode"][other, i]:
                    hessian += weight[i, t] * torch.outer(g_rows[i, t], g_rows[i, other])
    multiplier = policy._multiplier.item()
    f_rows = torch.stack([score(x, place, y) for x, y, place in zip(*fisher, strict=True)])
    hessian = (hessian + hessian.mT) / 2 + multiplier / len(f_rows) * f_rows.mT @ f_rows
    lowest = torch.linalg.eigvalsh(hessian)[0].item()
    curvature = hessian + max(game.damping_floor, -1.1 * lowest) * identity
    g = flat(torch.autograd.grad(policy._model_objective(data), params))
    q = torch.linalg.solve(curvature, g)
    if game.leader_mode == "kkt":
        inputs = policy.dynamics.inputs(BATCH["observations"], BATCH["actions"])
        gap = policy.divergence(inputs, elites=True).sum(-1).mean() - game.eps
        b = flat(torch.autograd.grad(gap, params)).unsqueeze(1)
        system = torch.cat([curvature, b], 1), torch.cat([multiplier * b.mT, gap.view(1, 1)], 1)
        q = torch.linalg.inv(torch.cat(system).detach())[: len(g), : len(g)] @ g
    log_prob, old, push = policy._acts(data, rows)
    ratio = (log_prob - old).exp()
    mask = push * ratio <= push * ratio.clamp(1 - game.clip_range, 1 + game.clip_range)
    total = torch.zeros((), dtype=FLOAT64)
    for k, i in enumerate(rows.tolist()):
        kappa = sum(weight[i, t] * (g_rows[i, t] @ q).item() for t in range(steps))
        total = total + kappa * (mask * log_prob)[:, k].sum()
    return data["scale"] * flat(torch.autograd.grad(total, list(policy.actor.parameters())))


def flat(tensors) -> torch.Tensor:
    return torch.cat([x.flatten() for x in tensors]).detach()


@pytest.mark.parametrize("mode", ["stackelberg", "kkt"])
def test_the_correction_is_that_of_dense_matrices_and_single_rows(mode: str) -> None:
    dynamics = make_dynamics(
        weighted=False, members=3, elites=2, hidden_dims=(4,), terminal_fn=ends_high
    )
    policy = moved(make_rombrl(dynamics=dynamics, leader_mode=mode, damping_floor=0.1), 0.02)
    # the model stands a step from what it was pre-trained to, the policy from who played
    buffer = ScriptedBuffer([BATCH])
    data, _ = policy.play(buffer)
    with torch.no_grad():
        for p in policy.actor.parameters():
            p.add_(0.02)
    stakes, seen = policy._stakes(data, buffer), {}
    drawn, policy._fisher_rows = policy._fisher_rows(buffer), lambda _: seen["fisher"]
    seen["fisher"] = drawn
    torch.manual_seed(3)  # a scripted buffer has no generator of its own
    rows = torch.randperm(8)[: policy._game.curvature_trajectories]
    torch.manual_seed(3)
    found, metrics = policy._correction(data, stakes, buffer)
    expected = dense_correction(policy, data, rows, drawn)
    torch.testing.assert_close(flat(found), expected, rtol=1e-8, atol=1e-12)
    assert metrics["second_order/min_eig"] < 0 and expected.abs().max() > 1e-6


def test_a_corrected_step_descends_the_plain_gradient_and_the_capped_correction() -> None:
    policy, buffer = make_rombrl(correction_cap=0.5, correction_weight=1e6), ScriptedBuffer([BATCH])
    data, _ = policy.play(buffer)
    stakes, steps = policy._stakes(data, buffer), []
    policy.leader_optim = torch.optim.SGD(policy.actor.parameters(), lr=1.0)
    before = flat(policy.actor.parameters()).clone()
    metrics = policy._leader_step(data, torch.arange(8), stakes, buffer)
    steps.append(flat(policy.actor.parameters()) - before)
    assert metrics["leader/cap_share"] == 1
    cosine, norm = metrics["leader/cos_correction"], metrics["leader/grad_norm"]
    # |G - 0.5 |G| c / |c||, G the gradient ascended, c the correction taken off
    expected = norm * (1 - cosine + 0.25).sqrt()
    torch.testing.assert_close(steps[0].norm(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(metrics["leader/total_norm"], expected, rtol=1e-6, atol=0)


def test_a_correction_that_is_not_finite_shows_in_the_metrics_and_raises_nothing() -> None:
    policy, buffer = make_rombrl(), ScriptedBuffer([BATCH])
    data, _ = policy.play(buffer)
    stakes = policy._stakes(data, buffer)
    data["sample"][0, :, 0] = torch.nan
    _, metrics = policy._correction(data, stakes, buffer)
    broken = policy._leader_step(data, torch.arange(4), stakes, buffer)
    assert broken["leader/correction_norm"].isnan() and metrics["second_order/damping"].isnan()


# the budget


@pytest.mark.parametrize("start", [1.0, 100.0])
def test_the_divergence_comes_to_its_budget_and_stays_there(start: float) -> None:
    """A worst model within the ball, for one advantage that is linear in the sample."""
    eps, rows = 2.0, 64
    dynamics = make_dynamics(
        weighted=False, members=3, elites=2, hidden_dims=(), dtype=torch.float32
    )
    policy = make_rombrl(
        dynamics=dynamics, dtype=torch.float32, eps=eps, lambda_init=start, kl_rows=rows
    )
    policy._dynamics_adv_optim.param_groups[0]["lr"].fill_(3e-2)
    source = generator(5)
    batch = make_batch(rows, dtype=torch.float32, seed=7)
    inputs = dynamics.inputs(batch["observations"], batch["actions"])
    params, found = list(dynamics.model.parameters()), []
    for _ in range(110):
        with torch.no_grad():
            divergence = policy.divergence(inputs, elites=True)
            policy._move_multiplier(divergence.sum(-1).mean() - eps, divergence)
        found.append(policy._means.result()["constraint/kl"])
        model = dynamics.model
        mean, logvar = (x.detach() for x in members_predict(model, model.elites, inputs))
        place = torch.randint(2, (rows,), generator=source)
        noise = torch.randn(rows, 4, generator=source)
        chosen = place, torch.arange(rows)
        sample = mean[chosen] + (0.5 * logvar[chosen]).exp() * noise
        old = gaussian_log_prob(mean, logvar, sample)[chosen].unsqueeze(1)
        spread = {"inputs": inputs, "sample": sample, "place": place, "sample_log_prob": old}
        for _ in range(8):
            loss, _ = policy.follower_loss(spread | {"push": noise[:, :1]}, batch)
            grads = torch.autograd.grad(loss, params)
            apply_gradients(policy._dynamics_adv_optim, params, grads)
    late = torch.tensor(found[90:])
    assert 0.8 * eps < late.min() and late.max() < 1.2 * eps, late
