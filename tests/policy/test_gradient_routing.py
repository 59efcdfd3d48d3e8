"""Which update changes which network, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from offlinerlkit_romi.policy import MOPOPolicy, RAMBOPolicy, ROMIPolicy, SACPolicy
from tests.factories import make_batch, make_policy
from tests.policy.scripted import ScriptedBuffer

BATCH = make_batch(8, seed=1)
BUFFER = ScriptedBuffer([BATCH])
PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
CRITICS, SLOW = {"critic1", "critic2"}, {"critic1_old", "critic2_old"}
SAC_UPDATE = {"actor", "alpha", "log_alpha", *CRITICS, *SLOW}

# name: policy class, its options, what is run, what it changes
ROUTES: dict[str, tuple[type, dict[str, Any], Callable[[Any], Any], set[str]]] = {
    "critic losses": (SACPolicy, {}, lambda p: p._update_critics(BATCH), CRITICS),
    "actor loss, fixed temperature": (
        SACPolicy,
        {"auto_alpha": False},
        lambda p: p._update_actor(BATCH["observations"], p._noise(BATCH["actions"])),
        {"actor"},
    ),
    "actor and temperature losses": (
        SACPolicy,
        {},
        lambda p: p._update_actor(BATCH["observations"], p._noise(BATCH["actions"])),
        {"actor", "alpha", "log_alpha"},
    ),
    "target averaging": (SACPolicy, {}, lambda p: p._sync_weight(), SLOW),
    "SAC update": (SACPolicy, {}, lambda p: p.update(BATCH), SAC_UPDATE),
    "MOPO update": (MOPOPolicy, {}, lambda p: p.update(PARTS), SAC_UPDATE),
    "RAMBO policy update": (RAMBOPolicy, {}, lambda p: p.update(PARTS), SAC_UPDATE),
    "RAMBO model update": (
        RAMBOPolicy,
        {"adv_weight": 0.5},
        lambda p: p.update_dynamics(BUFFER),
        {"dynamics"},
    ),
    "RAMBO behaviour cloning": (
        RAMBOPolicy,
        {},
        lambda p: p.pretrain(BATCH, 2, 4, 1e-3),
        {"actor"},
    ),
    "ROMI policy update": (ROMIPolicy, {}, lambda p: p.update(PARTS), SAC_UPDATE),
    "ROMI exact model update": (
        ROMIPolicy,
        {},
        lambda p: p.update_dynamics(BUFFER),
        {"dynamics", "weighting_net"},
    ),
    "ROMI release model update": (
        ROMIPolicy,
        {"variant": "release"},
        lambda p: p.update_dynamics(BUFFER),
        {"dynamics", "weighting_net", "baseline"},
    ),
    "ROMI unweighted model update": (
        ROMIPolicy,
        {"variant": "no_weighting"},
        lambda p: p.update_dynamics(BUFFER),
        {"dynamics"},
    ),
    "rollout": (MOPOPolicy, {}, lambda p: p.rollout(BATCH["observations"], 2), set()),
    "action selection": (SACPolicy, {}, lambda p: p.select_action(BATCH["observations"]), set()),
}


def make(cls: type, options: dict[str, Any]) -> Any:
    policy = make_policy(cls, **options)
    with torch.no_grad():  # slow critics that already equal the critics would not move
        for p in [*policy.critic1_old.parameters(), *policy.critic2_old.parameters()]:
            p.add_(0.1)
    return policy


def snapshot(policy: SACPolicy) -> dict[str, list[torch.Tensor]]:
    """Copies of every tensor of every module or tensor that training may change."""
    state = {
        name: list(part.state_dict().values()) if isinstance(part, nn.Module) else [part.detach()]
        for name, part in policy.training_state().items()
        if isinstance(part, nn.Module | torch.Tensor)
    }
    return {name: [x.clone() for x in tensors] for name, tensors in state.items()}


def changed(
    before: dict[str, list[torch.Tensor]], after: dict[str, list[torch.Tensor]]
) -> set[str]:
    return {
        name
        for name in before
        if any(
            not torch.equal(x.nan_to_num(), y.nan_to_num())
            for x, y in zip(before[name], after[name], strict=True)
        )
    }


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_an_update_changes_its_own_networks_alone(route) -> None:
    cls, options, run, expected = route
    policy = make(cls, options)
    before = snapshot(policy)
    run(policy)
    assert changed(before, snapshot(policy)) == expected


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_no_gradient_is_left_behind(route) -> None:
    cls, options, run, _ = route
    policy = make(cls, options)
    run(policy)
    modules = [x for x in policy.training_state().values() if isinstance(x, nn.Module)]
    assert all(p.grad is None for module in modules for p in module.parameters())


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_every_parameter_of_the_updated_networks_moves(route) -> None:
    cls, options, run, expected = route
    policy = make(cls, options)
    modules = {k: v for k, v in policy.training_state().items() if k in expected}
    trained = {
        f"{name}.{parameter}": p
        for name, module in modules.items()
        if isinstance(module, nn.Module)
        for parameter, p in module.named_parameters()
    }
    before = {name: p.detach().clone() for name, p in trained.items()}
    run(policy)
    still = {name for name, p in trained.items() if torch.equal(before[name], p)}
    assert not still


def test_a_critic_step_ignores_the_other_critic() -> None:
    first, second = make(SACPolicy, {}), make(SACPolicy, {})
    with torch.no_grad():
        for p in second.critic2.parameters():
            p.mul_(3)
    first._update_critics(BATCH)
    second._update_critics(BATCH)
    for left, right in zip(first.critic1.parameters(), second.critic1.parameters(), strict=True):
        assert torch.equal(left, right)


def test_slow_critics_move_by_averaging_alone() -> None:
    policy = make(SACPolicy, {"tau": 0.0})
    before = snapshot(policy)
    policy.update(BATCH)
    assert changed(before, snapshot(policy)).isdisjoint(SLOW)
    assert not any(p.requires_grad for c in policy.target_critics for p in c.parameters())


def known_reward(obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
    return obs[..., :1]


@pytest.mark.parametrize(
    "options, reward_fn, trained",
    [
        ({}, None, True),
        ({"reward_likelihood": False}, None, False),  # the loss sees next observations alone
        ({}, known_reward, False),  # as the paper has it: there is no reward to predict
    ],
    ids=["predicted", "switched off", "known"],
)
def test_unweighted_update_trains_the_reward_prediction_where_there_is_one(
    options, reward_fn, trained
) -> None:
    policy = make(ROMIPolicy, {"variant": "no_weighting"} | options)
    policy.dynamics.reward_fn = reward_fn
    bias = policy.dynamics.model.output_layer.bias
    before = bias.detach().clone()
    policy.update_dynamics(BUFFER)
    moved = (bias != before).any(0).squeeze(0)
    # [delta s, r] means, then their log-variances
    assert moved[:3].all() and moved[[3, 7]].tolist() == [trained, trained]


def test_without_an_outer_loss_the_weights_do_not_move() -> None:
    """All rows terminal: the inner loss alone is left, and it must not reach the weighting net."""
    policy = make(ROMIPolicy, {})
    before = snapshot(policy)
    policy.update_dynamics(ScriptedBuffer([make_batch(8, terminals=2.0)]))
    assert changed(before, snapshot(policy)) == {"dynamics"}
