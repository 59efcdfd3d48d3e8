"""Same seed, same bits; another seed, other networks; the global generator is nobody's."""

from typing import Any

import pytest
import torch
from torch import nn

from offlinerlkit_romi.engine import Counts, Generators
from offlinerlkit_romi.policy import MOPOPolicy, RAMBOPolicy, ROMIPolicy, SACPolicy
from tests.factories import make_buffer, make_dynamics, make_policy

CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "SAC": (SACPolicy, {}),
    "MOPO": (MOPOPolicy, {}),
    "RAMBO": (RAMBOPolicy, {"adv_weight": 0.3}),
    "ROMI exact": (ROMIPolicy, {}),
    "ROMI ball": (ROMIPolicy, {"uncertainty_set": "ball"}),
    "ROMI release": (ROMIPolicy, {"variant": "release"}),
    "ROMI no_weighting": (ROMIPolicy, {"variant": "no_weighting"}),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def make(case, seed: int = 0) -> Any:
    cls, options = case
    return make_policy(cls, dtype=torch.float32, seed=seed, **options)


def train_a_little(policy: Any) -> dict[str, torch.Tensor]:
    """Everything a run does, in small; returns all numbers that it changed or made."""
    buffer, made = make_buffer(64, seed=1), {}
    if isinstance(policy, MOPOPolicy):
        policy.dynamics.train(buffer.sample_all(), max_epochs=2, batch_size=16)
    if isinstance(policy, RAMBOPolicy):
        policy.pretrain(buffer.sample_all(), 2, 32, 1e-3)
    for _ in range(3):
        batch: Any = buffer.sample(8)
        if isinstance(policy, MOPOPolicy):
            made, _ = policy.rollout(batch["observations"], 2)
            names = ("observations", "next_observations", "actions", "rewards", "terminals")
            model_batch = dict(zip(names, made.values(), strict=True))
            batch = {"real": batch, "fake": model_batch}
        policy.update(batch)
        if isinstance(policy, RAMBOPolicy):
            policy.update_dynamics(buffer)
    return made | tensors(policy)


def tensors(policy: Any) -> dict[str, torch.Tensor]:
    result: dict[str, torch.Tensor] = {}
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


def different(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    """Names whose bits differ; ROMI's baseline is NaN before its first value."""
    return [k for k, x in first.items() if not torch.equal(x.nan_to_num(), second[k].nan_to_num())]


@cases
def test_the_same_seed_gives_the_same_bits(case) -> None:
    first, second = train_a_little(make(case)), train_a_little(make(case))
    assert first.keys() == second.keys()
    assert different(first, second) == []


@cases
def test_training_neither_reads_nor_moves_the_global_generator(case) -> None:
    policy, other = make(case), make(case)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = train_a_little(policy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    assert different(first, train_a_little(other)) == []


def networks(seed: int) -> dict[str, torch.Tensor]:
    """The weight matrices of a policy initialised from a run's seed, one per ensemble member."""
    generators = Generators(seed)
    with generators.initialisation("policy"):
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


@cases
def test_updates_with_other_generators_differ(case) -> None:
    first, second = make(case), make(case)
    second.generator.manual_seed(99)
    first, second = train_a_little(first), train_a_little(second)
    assert not torch.equal(first["actor.dist_net.mu.weight"], second["actor.dist_net.mu.weight"])
