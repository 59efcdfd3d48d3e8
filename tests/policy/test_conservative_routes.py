"""CQL, COMBO, IQL and EDAC: which update changes what, and same seed, same bits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from offlinerlkit_romi.policy import COMBOPolicy
from tests.factories import make_batch, make_edac, make_iql
from tests.policy.builders import make_cql
from tests.policy.test_gradient_routing import changed, snapshot

BATCH = make_batch(8, seed=1)
PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
CRITICS, SLOW = {"critic1", "critic2"}, {"critic1_old", "critic2_old"}
ACTOR = {"actor", "alpha", "log_alpha"}
IQL_CRITICS, IQL_SLOW = {"critic_q1", "critic_q2"}, {"critic_q1_old", "critic_q2_old"}


def critics_alone(policy: Any) -> None:
    terms = [
        policy._terms(
            critic, BATCH, torch.zeros_like(BATCH["rewards"]), policy._propose(BATCH), None
        )
        for critic in policy.critics
    ]
    policy._descend_critics(*(bellman + gap for bellman, gap, _ in terms))


def noisy_actor(policy: Any) -> None:
    policy._update_actor(BATCH["observations"], policy._noise(BATCH["actions"]))


ONE = torch.ones((), dtype=torch.float64)
# name: maker, its options, what is run, what it changes
ROUTES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[Any], Any], set[str]]] = {
    "CQL actor and temperature losses": (make_cql, {}, noisy_actor, ACTOR),
    "CQL critic losses": (make_cql, {}, critics_alone, CRITICS),
    "CQL multiplier loss": (make_cql, {}, lambda p: p._lagrange(ONE, ONE), {"cql_log_alpha"}),
    "CQL update": (
        make_cql,
        {"with_lagrange": False},
        lambda p: p.update(BATCH),
        {*ACTOR, *CRITICS, *SLOW},
    ),
    "CQL update with multiplier": (
        make_cql,
        {"compat": "kit", "max_q_backup": True},
        lambda p: p.update(BATCH),
        {*ACTOR, *CRITICS, *SLOW, "cql_log_alpha"},
    ),
    "COMBO update": (
        make_cql,
        {"cls": COMBOPolicy, "with_lagrange": False, "rho_s": "model"},
        lambda p: p.update(PARTS),
        {*ACTOR, *CRITICS, *SLOW},
    ),
    "COMBO rollout": (
        make_cql,
        {"cls": COMBOPolicy},
        lambda p: p.rollout(BATCH["observations"], 2),
        set(),
    ),
    "IQL critic losses": (
        make_iql,
        {},
        lambda p: p._update_critics(BATCH, torch.zeros_like(BATCH["rewards"])),
        IQL_CRITICS,
    ),
    "IQL target averaging": (make_iql, {}, lambda p: p._sync_weight(), IQL_SLOW),
    "IQL update": (
        make_iql,
        {},
        lambda p: p.update(BATCH),
        {"actor", "critic_v", *IQL_CRITICS, *IQL_SLOW},
    ),
    "EDAC critic losses": (make_edac, {}, lambda p: p._update_critics(BATCH), {"critics"}),
    "EDAC update": (make_edac, {}, lambda p: p.update(BATCH), {*ACTOR, "critics", "critics_old"}),
    "EDAC update, fixed temperature": (
        make_edac,
        {"auto_alpha": False, "eta": 0.0},
        lambda p: p.update(BATCH),
        {"actor", "critics", "critics_old"},
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
def test_no_gradient_is_left_behind(route) -> None:
    make, options, run, _ = route
    policy = make(**options)
    run(policy)
    modules = [x for x in policy.training_state().values() if isinstance(x, nn.Module)]
    assert all(p.grad is None for module in modules for p in module.parameters())
