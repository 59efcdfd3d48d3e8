"""What every policy keeps: what an update may change, seeds, listed state, acting, compat."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from offlinerlkit_romi import policy as policies
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.engine.state import Counts
from offlinerlkit_romi.envs.custom import InUserUnits
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy import ROMIPolicy
from offlinerlkit_romi.utils.scaler import StandardScaler
from tests.support.count import dataset, make_count_dynamics
from tests.support.policies import SMALL_GAME, make_batch, make_buffer, make_dynamics, make_policy
from tests.support.scripted import ScriptedBuffer

Numbers = dict[str, torch.Tensor]

BATCH = make_batch(8, seed=1)
PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
TRANSITION = ("observations", "next_observations", "actions", "rewards", "terminals")
SCALER = StandardScaler(np.full((1, 3), 0.5), np.full((1, 3), 2.0))

ACTOR = {"actor", "alpha", "log_alpha"}
TWINS = {"critic1", "critic2", "critic1_old", "critic2_old"}
ENSEMBLE = {"critics", "critics_old"}
QS = {"critic_q1", "critic_q2", "critic_q1_old", "critic_q2_old"}
ROMBRL = {"actor", "dynamics", "multiplier"}
TD3 = {"actor", "actor_old", "last_actor_loss"} | TWINS


def playing(**values: Any) -> dict[str, Any]:
    return {"game": replace(SMALL_GAME, **values)}


RELEASED = playing(
    **{"leader_mode": "plain", "lambda_mode": "fixed", "lambda_init": 3.0, "anchor": "nll"},
    **{"follower_clip": "min", "normalise": "time_step", "discount_weights": "leader"},
    **{"discount_restarts": False, "model_horizon": 2},
)

# name: class, options, what a policy update changes, what a model update changes
Case = tuple[str, dict[str, Any], set[str], set[str]]
CASES: dict[str, Case] = {
    "SAC": ("SAC", {}, ACTOR | TWINS, set()),
    "SAC, fixed alpha": ("SAC", {"auto_alpha": False}, {"actor"} | TWINS, set()),
    "CQL": ("CQL", {}, ACTOR | TWINS | {"cql_log_alpha"}, set()),
    "CQL, kit": (
        "CQL",
        {"compat": "kit", "max_q_backup": True},
        ACTOR | TWINS | {"cql_log_alpha"},
        set(),
    ),
    "CQL, no multiplier": ("CQL", {"with_lagrange": False}, ACTOR | TWINS, set()),
    "COMBO": ("COMBO", {"with_lagrange": True}, ACTOR | TWINS | {"cql_log_alpha"}, set()),
    "COMBO, model states": (
        "COMBO",
        {"with_lagrange": False, "rho_s": "model", "uniform_rollout": True},
        ACTOR | TWINS,
        set(),
    ),
    "IQL": ("IQL", {}, {"actor", "critic_v"} | QS, set()),
    "IQL, dropout": ("IQL", {"dropout": 0.2}, {"actor", "critic_v"} | QS, set()),
    "EDAC": ("EDAC", {}, ACTOR | ENSEMBLE, set()),
    "EDAC, max Q": ("EDAC", {"max_q_backup": True}, ACTOR | ENSEMBLE, set()),
    "EDAC, plain": ("EDAC", {"auto_alpha": False, "eta": 0.0}, {"actor"} | ENSEMBLE, set()),
    "RORL": ("RORL", {"release": True}, ACTOR | ENSEMBLE | {"lambda_ood"}, set()),
    "RORL, smooth alone": (
        "RORL",
        {"beta_ood": 0.0, "noise": "per_row"},
        ACTOR | ENSEMBLE,
        set(),
    ),
    "TD3": ("TD3", {"dropout": 0.2}, TD3, set()),
    "TD3+BC": ("TD3BC", {"scaler": SCALER}, TD3, set()),
    "BC": ("BC", {}, {"actor"}, set()),
    "MCQ": ("MCQ", {"dropout": 0.2}, ACTOR | TWINS | {"behavior_policy"}, set()),
    "MOBILE": ("MOBILE", {}, ACTOR | ENSEMBLE, set()),
    "MOBILE, fixed alpha": (
        "MOBILE",
        {"auto_alpha": False, "max_q_backup": True},
        {"actor"} | ENSEMBLE,
        set(),
    ),
    "ROMBRL": ("ROMBRL", {}, ACTOR | ENSEMBLE, ROMBRL),
    "ROMBRL, stackelberg": ("ROMBRL", playing(leader_mode="stackelberg"), ACTOR | ENSEMBLE, ROMBRL),
    "ROMBRL, released": ("ROMBRL", RELEASED, ACTOR | ENSEMBLE, {"actor", "dynamics"}),
    "MOPO": ("MOPO", {}, ACTOR | TWINS, set()),
    "RAMBO": ("RAMBO", {"adv_weight": 0.5, "scaler": SCALER}, ACTOR | TWINS, {"dynamics"}),
    "ROMI": ("ROMI", {"scaler": SCALER}, ACTOR | TWINS, {"dynamics", "weighting_net"}),
    "ROMI, ball": (
        "ROMI",
        {"uncertainty_set": "ball"},
        ACTOR | TWINS,
        {"dynamics", "weighting_net"},
    ),
    "ROMI, release": (
        "ROMI",
        {"variant": "release"},
        ACTOR | TWINS,
        {"dynamics", "weighting_net", "baseline"},
    ),
    "ROMI, no weighting": ("ROMI", {"variant": "no_weighting"}, ACTOR | TWINS, {"dynamics"}),
}
ROUTES: list[tuple[str, str]] = []
for _name, (*_, _model) in CASES.items():
    _kinds = ("update", "select_action") + (("model_update",) if _model else ())
    ROUTES += [(_name, kind) for kind in _kinds]
ROUTES += [
    (name, "rollout") for name in ("MOPO", "COMBO", "COMBO, model states", "MOBILE", "ROMBRL")
]
ROUTES += [("RAMBO", "pretrain"), ("ROMI", "pretrain")]


def make(case: str, **options: Any) -> Any:
    kind, own, *_ = CASES[case]
    return make_policy(getattr(policies, f"{kind}Policy"), **own | options)


def on_model(policy: Any) -> bool:
    return hasattr(policy, "rollout")


def update(policy: Any) -> None:
    policy.update(PARTS if on_model(policy) else BATCH)


def model_update(policy: Any) -> None:
    if hasattr(policy, "update_dynamics"):
        policy.update_dynamics(ScriptedBuffer([BATCH]))


RUN: dict[str, Callable[[Any], Any]] = {
    "update": update,
    "model_update": model_update,
    "rollout": lambda policy: policy.rollout(BATCH["observations"], 2),
    "select_action": lambda policy: policy.select_action(BATCH["observations"]),
    "pretrain": lambda policy: policy.pretrain(BATCH, 2, 4, 1e-3),
}


def changes(case: str, kind: str) -> set[str]:
    _, _, by_update, by_model = CASES[case]
    return {"update": by_update, "model_update": by_model, "pretrain": {"actor"}}.get(kind, set())


def snapshot(policy: Any) -> dict[str, list[torch.Tensor]]:
    """Copies of every tensor of every module or tensor that training may change."""
    state = {
        name: list(part.state_dict().values()) if isinstance(part, nn.Module) else [part.detach()]
        for name, part in policy.training_state().items()
        if isinstance(part, nn.Module | torch.Tensor)
    }
    return {name: [x.clone() for x in parts] for name, parts in state.items()}


def changed(before: Mapping[str, list[torch.Tensor]], policy: Any) -> set[str]:
    after = snapshot(policy)
    return {
        name
        for name in before
        if any(
            not torch.equal(x.nan_to_num(), y.nan_to_num())
            for x, y in zip(before[name], after[name], strict=True)
        )
    }


def modules(policy: Any) -> dict[str, nn.Module]:
    return {k: x for k, x in policy.training_state().items() if isinstance(x, nn.Module)}


def optimisers(policy: Any) -> dict[str, torch.optim.Optimizer]:
    state = policy.training_state()
    return {k: x for k, x in state.items() if isinstance(x, torch.optim.Optimizer)}


def test_no_policy_is_forgotten() -> None:
    kinds = {f"{kind}Policy" for kind, *_ in CASES.values()}
    assert kinds == {name for name in policies.__all__ if name.endswith("Policy")} - {"BasePolicy"}


# What an update may change


@pytest.mark.parametrize(("case", "kind"), ROUTES)
def test_an_update_changes_its_own_networks_alone_and_every_parameter_of_them(case, kind) -> None:
    policy, expected = make(case), changes(case, kind)
    before = snapshot(policy)
    trained = {
        f"{name}.{key}": (p, p.detach().clone())
        for name, module in modules(policy).items()
        for key, p in module.named_parameters()
        if name in expected
    }
    RUN[kind](policy)
    assert changed(before, policy) == expected
    assert not {name for name, (p, old) in trained.items() if torch.equal(old, p)}
    # no gradient is left behind
    assert all(p.grad is None for module in modules(policy).values() for p in module.parameters())


# where an optimiser is not named after what it moves; the fit alone uses the dynamics' own
MOVES = {
    "alpha_optim": {"log_alpha"},
    "cql_alpha_optim": {"cql_log_alpha"},
    "dynamics_optim": set(),
    "dynamics_adv_optim": {"dynamics"},
    "leader_optim": {"actor"},
    "weighting_optim": {"weighting_net"},
}
# the weights are judged by what the inner step does: without one they have no gradient
NEEDED = {(f"ROMI{set_}", "weighting_optim"): {"dynamics_adv_optim"} for set_ in ("", ", ball")}
UNUSED = {("ROMI, no weighting", "weighting_optim")}
# follow from the rest: a temperature from its logarithm, reports, a moving baseline, a schedule, a
# multiplier
DERIVED = {"alpha", "last_actor_loss", "baseline", "lambda_ood", "multiplier"}
ROWS = [(case, optim) for case in CASES for optim in optimisers(make(case))]


def moved_by(case: str, working: set[str], tau: float = 0.0) -> set[str]:
    """What training once changes when these optimisers alone have a rate."""
    policy = make(case, **({} if case == "BC" else {"tau": tau}))
    for name, optimiser in optimisers(policy).items():
        if name not in working:
            optimiser.param_groups[0]["lr"] = 0.0
    before = snapshot(policy)
    update(policy)
    model_update(policy)
    return changed(before, policy) - DERIVED


@pytest.mark.parametrize(("case", "optim"), ROWS)
def test_an_optimiser_moves_its_network_alone(case: str, optim: str) -> None:
    working = {optim} | NEEDED.get((case, optim), set())
    expected = set().union(*(MOVES.get(x, {x.removesuffix("_optim")}) for x in working))
    assert moved_by(case, working) == (set() if (case, optim) in UNUSED else expected)


@pytest.mark.parametrize("case", CASES)
def test_slow_copies_move_by_averaging_and_nothing_without_any_rate(case: str) -> None:
    slow = {name for name in CASES[case][2] if name.endswith("_old")}
    assert moved_by(case, set()) == set()
    assert moved_by(case, set(), tau=0.1) == slow
    policy = make(case)
    assert not any(p.requires_grad for name in slow for p in getattr(policy, name).parameters())


def test_a_critic_step_ignores_the_other_critic() -> None:
    first, second = make("SAC"), make("SAC")
    with torch.no_grad():
        for p in second.critic2.parameters():
            p.mul_(3)
    first._update_critics(BATCH)
    second._update_critics(BATCH)
    for left, right in zip(first.critic1.parameters(), second.critic1.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_delayed_update_steps_the_critics_alone() -> None:
    policy = make("TD3+BC")
    policy.training_state()["updates"]["updates"] += 1
    before = snapshot(policy)
    update(policy)
    assert changed(before, policy) == {"critic1", "critic2"}


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
    policy = make("ROMI, no weighting", **options)
    policy.dynamics.reward_fn = reward_fn
    bias = policy.dynamics.model.output_layer.bias
    before = bias.detach().clone()
    model_update(policy)
    moved = (bias != before).any(0).squeeze(0)
    # [delta s, r] means, then their log-variances
    assert moved[:3].all() and moved[[3, 7]].tolist() == [trained, trained]


def test_without_an_outer_loss_the_weights_do_not_move() -> None:
    """All rows terminal: the inner loss alone is left, and it must not reach the weighting net."""
    policy = make("ROMI")
    before = snapshot(policy)
    policy.update_dynamics(ScriptedBuffer([make_batch(8, terminals=2.0)]))
    assert changed(before, policy) == {"dynamics"}


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


# Seeds and listed state


def single(case: str, seed: int = 0) -> Any:
    return make(case, dtype=torch.float32, seed=seed).train()


def train_a_little(policy: Any) -> Numbers:
    """Everything a run does, in small; returns all numbers that it changed or made."""
    buffer, made = make_buffer(64, seed=1), {}
    if on_model(policy):
        policy.dynamics.train(buffer.sample_all(), max_epochs=2, batch_size=16)
    if hasattr(policy, "pretrain"):
        policy.pretrain(buffer.sample_all(), 2, 32, 1e-3)
    for _ in range(4):
        made = step(policy, buffer)
    return made | tensors(policy)


def step(policy: Any, buffer: Any) -> Numbers:
    """A rollout, an update of the policy and one of the model, as far as there are any."""
    batch, made = buffer.sample(8), {}
    if on_model(policy):
        made, _ = policy.rollout(batch["observations"], 2)
        batch = {"real": batch, "fake": dict(zip(TRANSITION, made.values(), strict=True))}
    policy.update(batch)
    if hasattr(policy, "update_dynamics"):
        policy.update_dynamics(buffer)
    return made


def tensors(policy: Any) -> Numbers:
    result: Numbers = {}
    for name, part in policy.training_state().items():
        if isinstance(part, nn.Module):
            result |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        elif isinstance(part, torch.Tensor):
            result[name] = part.detach()
        elif isinstance(part, torch.Generator):
            result[name] = part.get_state()
        elif isinstance(part, Counts):
            result |= {f"{name}.{key}": torch.tensor(count) for key, count in part.items()}
        else:
            moments = part.state_dict()["state"]
            result |= {f"{name}.{i}.{k}": v for i, s in moments.items() for k, v in s.items()}
    return result


def different(first: Numbers, second: Numbers) -> list[str]:
    """Names whose bits differ; ROMI's baseline is NaN before its first value."""
    assert first.keys() == second.keys()
    return [k for k, x in first.items() if not torch.equal(x.nan_to_num(), second[k].nan_to_num())]


@pytest.mark.parametrize("case", CASES)
def test_the_seed_alone_decides_and_the_global_generator_is_nobodys(case: str) -> None:
    policy, same, other = single(case), single(case), single(case)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = train_a_little(policy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    assert different(first, train_a_little(same)) == []
    if case not in ("IQL", "BC"):  # whose updates draw nothing
        other.generator.manual_seed(99)
        assert any(name.startswith("actor.") for name in different(first, train_a_little(other)))


@pytest.mark.parametrize("case", CASES)
def test_a_run_split_by_a_checkpoint_ends_in_the_same_bits(case: str) -> None:
    """Whatever `training_state` lists is enough to go on, in a policy that trained otherwise."""
    whole, first, fresh = (single(case) for _ in range(3))
    buffers = [make_buffer(64, seed=1), make_buffer(64, seed=1), make_buffer(64, seed=2)]
    for policy, buffer in zip((whole, first, fresh), buffers, strict=True):
        for _ in range(3):  # the last one's too, so that nothing is right by accident
            step(policy, buffer)
    restore(fresh.training_state(), first.training_state())
    for policy, buffer in ((whole, buffers[0]), (fresh, buffers[1])):
        for _ in range(3):
            step(policy, buffer)
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


@pytest.mark.parametrize("case", CASES)
def test_whatever_has_weights_is_listed(case: str) -> None:
    policy = make(case)
    listed = {id(p) for module in modules(policy).values() for p in module.parameters()}
    assert {id(p) for p in policy.parameters()} <= listed
    moved = [
        p for x in optimisers(policy).values() for group in x.param_groups for p in group["params"]
    ]
    tuned = {id(x) for x in policy.training_state().values() if isinstance(x, torch.Tensor)}
    assert {id(p) for p in moved} <= listed | tuned


def networks(seed: int) -> Numbers:
    """The weight matrices of a policy initialised from a run's seed, one per ensemble member."""
    with Generators(seed).initialisation("policy"):
        torch_seed = int(torch.randint(2**31, ()))
    policy = make_policy(ROMIPolicy, seed=torch_seed)
    weights = {
        name: p.detach()
        for name, p in [*policy.named_parameters(), *policy.dynamics.model.named_parameters()]
        if name.endswith("weight")
    }
    members = {name: w for name, w in weights.items() if w.dim() == 3}
    split = {f"{name}[{e}]": w[e] for name, w in members.items() for e in range(len(w))}
    return {name: w for name, w in weights.items() if name not in members} | split


def test_another_seed_changes_every_network_and_every_member() -> None:
    first, second = networks(0), networks(1)
    assert any(name.startswith("weighting_net") for name in first)
    assert [name for name in first if torch.equal(first[name], second[name])] == []


def test_members_of_an_ensemble_start_different() -> None:
    for layer in make_dynamics(members=4).model.layers:
        flat = layer.weight.detach().flatten(1)
        gaps = torch.cdist(flat, flat) + torch.eye(4)
        assert (gaps > 1e-3).all()


# Acting and compat

OBS = np.random.default_rng(0).normal(size=(4, 3))
USERS = "IQL in the user's units"


@pytest.fixture(params=[*CASES, USERS])
def acting(request) -> Any:
    if request.param == USERS:
        return InUserUnits(make("IQL"), SimpleNamespace(to_user=lambda action: 3 * action))
    return make(request.param).eval()


def test_one_observation_gives_the_action_of_a_batch_with_it_alone(acting) -> None:
    action = acting.select_action(OBS[0], deterministic=True)
    assert isinstance(action, np.ndarray) and action.shape == (2,)
    np.testing.assert_array_equal(action, acting.select_action(OBS[:1], deterministic=True)[0])
    assert acting.select_action(OBS[0].tolist()).shape == (2,)
    assert acting.select_action(OBS).shape == (4, 2)


@pytest.mark.parametrize("shape", [(4,), (2,), (5, 4), (3, 1), (), (2, 5, 3)], ids=str)
def test_observations_of_another_shape_are_refused_in_one_line(acting, shape) -> None:
    with pytest.raises(UserError) as caught:
        acting.select_action(np.zeros(shape), deterministic=True)
    message = str(caught.value)
    assert "\n" not in message
    assert f"observations of shape {shape}" in message and "(n, 3) or (3,)" in message


@pytest.mark.parametrize("case", ["TD3+BC", "RAMBO", "ROMI"])
def test_raw_observations_are_standardised_when_acting(case: str) -> None:
    expected = make(case, scaler=None).select_action((OBS - 0.5) / 2, deterministic=True)
    np.testing.assert_allclose(make(case).select_action(OBS, deterministic=True), expected)


@pytest.mark.parametrize("case", CASES)
def test_compat_is_paper_or_kit(case: str) -> None:
    with pytest.raises(ValueError, match="compat is one of paper, kit: 'corl'"):
        make(case, compat="corl")
    update(make(case, compat="kit"))
