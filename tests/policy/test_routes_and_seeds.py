"""TD3, TD3+BC, cloning, MCQ and MOBILE: which update changes what, and same seed, same bits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from offlinerlkit_romi.policy import COMBOPolicy, TD3Policy
from tests.factories import make_batch, make_edac, make_iql
from tests.policy.builders import make_bc, make_cql, make_mcq, make_mobile, make_td3
from tests.policy.test_determinism import different, tensors
from tests.policy.test_gradient_routing import changed, snapshot

BATCH = make_batch(8, seed=1)
PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
CRITICS = {"critic1", "critic2"}
SLOW = {"actor_old", "critic1_old", "critic2_old"}
ACTOR = {"actor", "alpha", "log_alpha"}
COUNTED = {"last_actor_loss"}


def second(policy: Any) -> Any:
    """A policy whose next update leaves the actor alone."""
    policy.training_state()["updates"]["updates"] += 1
    return policy


# name: maker, its options, what is run, what it changes
ROUTES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[Any], Any], set[str]]] = {
    "TD3 critic losses": (
        make_td3,
        {},
        lambda p: p._update_critics(BATCH, torch.zeros_like(BATCH["actions"])),
        CRITICS,
    ),
    "TD3 actor loss": (
        make_td3,
        {"cls": TD3Policy},
        lambda p: p._update_actor(BATCH),
        {"actor", "last_actor_loss"},
    ),
    "TD3+BC actor loss": (
        make_td3,
        {},
        lambda p: p._update_actor(BATCH),
        {"actor", "last_actor_loss"},
    ),
    "TD3 target averaging": (make_td3, {}, lambda p: p._sync_weight(), SLOW),
    "TD3+BC first update": (
        make_td3,
        {},
        lambda p: p.update(BATCH),
        {"actor", *CRITICS, *SLOW, *COUNTED},
    ),
    "TD3+BC second update": (
        lambda **options: second(make_td3(**options)),
        {},
        lambda p: p.update(BATCH),
        CRITICS,
    ),
    "BC update": (make_bc, {}, lambda p: p.update(BATCH), {"actor"}),
    "MCQ behaviour loss": (
        make_mcq,
        {},
        lambda p: p._update_behavior(BATCH),
        {"behavior_policy"},
    ),
    "MCQ critic losses": (make_mcq, {}, lambda p: p._update_critics(BATCH), CRITICS),
    "MCQ update": (
        make_mcq,
        {},
        lambda p: p.update(BATCH),
        {"behavior_policy", "critic1_old", "critic2_old", *CRITICS, *ACTOR},
    ),
    "MOBILE critic loss": (
        make_mobile,
        {},
        lambda p: p._update_critics(PARTS["fake"], 2),
        {"critics"},
    ),
    "MOBILE update": (
        make_mobile,
        {},
        lambda p: p.update(PARTS),
        {"critics", "critics_old", *ACTOR},
    ),
    "MOBILE update, fixed temperature": (
        make_mobile,
        {"auto_alpha": False, "max_q_backup": True},
        lambda p: p.update(PARTS),
        {"critics", "critics_old", "actor"},
    ),
    "MOBILE rollout": (
        make_mobile,
        {},
        lambda p: p.rollout(BATCH["observations"], 2),
        set(),
    ),
}
routes = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())


@routes
def test_an_update_changes_its_own_networks_alone(route) -> None:
    make, options, run, expected = route
    policy = make(**options)
    before = snapshot(policy)
    run(policy)
    assert changed(before, snapshot(policy)) == expected


@routes
def test_no_gradient_is_left_behind_and_every_trained_parameter_moves(route) -> None:
    make, options, run, expected = route
    policy = make(**options)
    modules = {k: v for k, v in policy.training_state().items() if isinstance(v, nn.Module)}
    trained = {
        f"{name}.{parameter}": p
        for name in expected & modules.keys()
        for parameter, p in modules[name].named_parameters()
    }
    before = {name: p.detach().clone() for name, p in trained.items()}
    run(policy)
    assert all(p.grad is None for module in modules.values() for p in module.parameters())
    assert not {name for name, p in trained.items() if torch.equal(before[name], p)}


CASES: dict[str, Callable[[], Any]] = {
    "CQL": lambda: make_cql(dtype=torch.float32),
    "CQL kit": lambda: make_cql(dtype=torch.float32, compat="kit", max_q_backup=True),
    "COMBO": lambda: make_cql(COMBOPolicy, dtype=torch.float32),
    "IQL": lambda: make_iql(dtype=torch.float32),
    "IQL dropout": lambda: make_iql(dtype=torch.float32, dropout=0.2),
    "EDAC": lambda: make_edac(dtype=torch.float32, max_q_backup=True),
    "TD3": lambda: make_td3(TD3Policy, dtype=torch.float32, dropout=0.2),
    "TD3+BC": lambda: make_td3(dtype=torch.float32),
    "BC": lambda: make_bc(dtype=torch.float32),
    "MCQ": lambda: make_mcq(dtype=torch.float32, dropout=0.2),
    "MOBILE": lambda: make_mobile(dtype=torch.float32),
}
cases = pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())


def train_a_little(policy: Any) -> dict[str, torch.Tensor]:
    policy.train()
    for seed in range(4):
        batch: Any = make_batch(8, seed=seed, dtype=torch.float32)
        if hasattr(policy, "rollout"):
            made, _ = policy.rollout(batch["observations"], 2)
            names = ("observations", "next_observations", "actions", "rewards", "terminals")
            batch = {"real": batch, "fake": dict(zip(names, made.values(), strict=True))}
        policy.update(batch)
    return tensors(policy)


@cases
def test_the_same_seed_gives_the_same_bits(make) -> None:
    assert different(train_a_little(make()), train_a_little(make())) == []


@cases
def test_training_neither_reads_nor_moves_the_global_generator(make) -> None:
    policy, other = make(), make()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = train_a_little(policy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    assert different(first, train_a_little(other)) == []


@cases
def test_a_run_split_by_a_checkpoint_ends_in_the_same_bits(make) -> None:
    """Whatever `training_state` lists is enough to go on, in a policy of another seed's weights."""
    whole, first, fresh = make(), make(), make()
    batches = [make_batch(8, seed=seed, dtype=torch.float32) for seed in range(6)]
    feed = [{"real": b, "fake": b} for b in batches] if hasattr(whole, "rollout") else batches
    for policy in (whole, first, fresh):
        policy.train()
    for batch in feed:
        whole.update(batch)
    for batch in feed[:3]:
        first.update(batch)
    for batch in feed[3:]:
        fresh.update(batch)  # so that nothing is right by accident
    restore(fresh.training_state(), first.training_state())
    for batch in feed[3:]:
        fresh.update(batch)
    assert different(tensors(whole), tensors(fresh)) == []


@torch.no_grad()
def restore(target: dict[str, Any], source: dict[str, Any]) -> None:
    for name, part in source.items():
        if isinstance(part, torch.Tensor):
            target[name].copy_(part)
        elif isinstance(part, torch.Generator):
            target[name].set_state(part.get_state())
        else:
            target[name].load_state_dict(part.state_dict())
