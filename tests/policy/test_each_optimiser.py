"""Gradient routing, row by row: each optimiser of each algorithm moves its own network alone.

All other optimisers' rates and the targets' share are zero, so whatever else changed would have
been moved by that optimiser's loss.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from offlinerlkit_romi.policy import (
    COMBOPolicy,
    CQLPolicy,
    MOPOPolicy,
    RAMBOPolicy,
    ROMIPolicy,
    SACPolicy,
    TD3Policy,
)
from tests.dynamics.count_factory import dataset, make_count_dynamics
from tests.factories import make_batch, make_edac, make_iql, make_policy
from tests.policy.builders import make_bc, make_mcq, make_mobile, make_td3
from tests.policy.scripted import ScriptedBuffer
from tests.policy.test_gradient_routing import changed, snapshot

BATCH = make_batch(8, seed=1)
PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
MAKERS: dict[str, Callable[[], Any]] = {
    "SAC": lambda: make_policy(SACPolicy),
    "CQL": lambda: make_policy(CQLPolicy, with_lagrange=True),
    "CQL kit": lambda: make_policy(CQLPolicy, with_lagrange=True, compat="kit"),
    "COMBO": lambda: make_policy(COMBOPolicy, with_lagrange=True),
    "IQL": make_iql,
    "EDAC": make_edac,
    "TD3": lambda: make_td3(TD3Policy),
    "TD3+BC": make_td3,
    "BC": make_bc,
    "MCQ": make_mcq,
    "MOBILE": make_mobile,
    "MOPO": lambda: make_policy(MOPOPolicy),
    "RAMBO": lambda: make_policy(RAMBOPolicy, adv_weight=0.5),
    "ROMI": lambda: make_policy(ROMIPolicy),
    "ROMI release": lambda: make_policy(ROMIPolicy, variant="release"),
    "ROMI no_weighting": lambda: make_policy(ROMIPolicy, variant="no_weighting"),
}
# where an optimiser is not named after what it moves; the fit alone uses the dynamics' own
MOVES = {
    "alpha_optim": {"log_alpha"},
    "cql_alpha_optim": {"cql_log_alpha"},
    "dynamics_optim": set(),
    "dynamics_adv_optim": {"dynamics"},
    "weighting_optim": {"weighting_net"},
}
# the weights are judged by what the inner step does: without one they have no gradient
NEEDED = {("ROMI", "weighting_optim"): {"dynamics_adv_optim"}}
UNUSED = {("ROMI no_weighting", "weighting_optim")}
# follow from the rest: a temperature from its logarithm, reports, a moving baseline
DERIVED = {"alpha", "last_actor_loss", "baseline"}


def optimisers(policy: Any) -> dict[str, torch.optim.Optimizer]:
    state = policy.training_state()
    return {k: v for k, v in state.items() if isinstance(v, torch.optim.Optimizer)}


def update(policy: Any) -> None:
    """All that training calls, once."""
    policy.update(PARTS if hasattr(policy, "rollout") else BATCH)
    if hasattr(policy, "update_dynamics"):
        policy.update_dynamics(ScriptedBuffer([BATCH]))


ROWS = [(name, optim) for name, make in MAKERS.items() for optim in optimisers(make())]


@pytest.mark.parametrize("name, optim", ROWS, ids=[f"{name}: {optim}" for name, optim in ROWS])
def test_an_optimiser_moves_its_network_alone(name: str, optim: str) -> None:
    policy = MAKERS[name]()
    policy._tau = 0.0
    working = {optim} | NEEDED.get((name, optim), set())
    for other, optimiser in optimisers(policy).items():
        if other not in working:
            optimiser.param_groups[0]["lr"] = 0.0
    before = snapshot(policy)
    update(policy)
    expected = set().union(*(MOVES.get(x, {x.removesuffix("_optim")}) for x in working))
    expected = set() if (name, optim) in UNUSED else expected
    assert changed(before, snapshot(policy)) - DERIVED == expected


@pytest.mark.parametrize("name", MAKERS)
def test_without_any_rate_nothing_moves(name: str) -> None:
    policy = MAKERS[name]()
    policy._tau = 0.0
    for optimiser in optimisers(policy).values():
        optimiser.param_groups[0]["lr"] = 0.0
    before = snapshot(policy)
    update(policy)
    assert changed(before, snapshot(policy)) - DERIVED == set()


@pytest.mark.parametrize("still", ["optim", "coder_optim"])
def test_count_morls_losses_move_model_and_coder_apart(still: str) -> None:
    dynamics = make_count_dynamics()
    parts = {"optim": dynamics.model, "coder_optim": dynamics.coder}
    getattr(dynamics, still).param_groups[0]["lr"] = 0.0
    before = {k: [p.detach().clone() for p in m.parameters()] for k, m in parts.items()}
    dynamics.train(dataset(), max_epochs=1, batch_size=16)
    moved = {
        k: [not torch.equal(p, q) for p, q in zip(before[k], m.parameters(), strict=True)]
        for k, m in parts.items()
    }
    (other,) = parts.keys() - {still}
    assert not any(moved[still]) and any(moved[other])
