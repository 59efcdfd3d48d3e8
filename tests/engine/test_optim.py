"""Optimiser steps and target averaging."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from offlinerlkit_romi.engine import (
    apply_gradients,
    descend,
    descend_apart,
    make_adam,
    polyak_update,
)
from offlinerlkit_romi.engine.optim import FusedAdam, adam_step, load_optimizer


def make_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()


def test_applied_gradients_make_the_step_that_backward_would() -> None:
    net, x = make_net(), torch.randn(5, 3, dtype=torch.float64)
    twin = deepcopy(net)
    optim, twin_optim = make_adam(net.parameters(), 0.01), torch.optim.Adam(twin.parameters(), 0.01)
    for _ in range(3):
        params = list(net.parameters())
        apply_gradients(optim, params, torch.autograd.grad(net(x).square().mean(), params))
        twin_optim.zero_grad()
        twin(x).square().mean().backward()
        twin_optim.step()
    for left, right in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)
        assert left.grad is None


def test_applied_gradients_are_not_changed() -> None:
    net = make_net()
    params = list(net.parameters())
    grads = [torch.ones_like(p) for p in params]
    apply_gradients(make_adam(params, 0.01), params, grads)
    assert all(bool((g == 1).all()) for g in grads)


GROUPS = {"plain": {}, "weight decay": {"weight_decay": 0.1}, "AMSGrad": {"amsgrad": True}}


@pytest.mark.parametrize("settings", GROUPS.values(), ids=GROUPS.keys())
def test_a_lean_step_is_torchs_own_to_the_bit(settings: dict[str, Any]) -> None:
    net = make_net().float()
    twin = deepcopy(net)
    lean = FusedAdam(net.parameters(), 0.01, fused=True, **settings)
    full = torch.optim.Adam(twin.parameters(), 0.01, fused=True, **settings)
    for k in range(5):
        for optim, parts in ((lean, net), (full, twin)):
            for p in parts.parameters():
                p.grad = (p.detach() * (k - 1.5)).sin()
            optim.step()
    assert equal_states(lean.state_dict(), full.state_dict())
    full.load_state_dict(lean.state_dict())
    assert all(map(torch.equal, net.parameters(), twin.parameters()))


@pytest.mark.parametrize("settings", GROUPS.values(), ids=GROUPS.keys())
def test_a_hook_is_called_once_a_step(settings: dict[str, Any]) -> None:
    net, calls = make_net(), []
    torch.optim.Adam(net.parameters())  # from now on torch wraps the parent's step as well
    optim = FusedAdam(net.parameters(), 0.01, fused=True, **settings)
    optim.register_step_pre_hook(lambda *_: calls.append(1))
    for steps in range(1, 4):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optim.step()
        assert len(calls) == steps


def test_a_lean_step_leaves_out_what_has_no_gradient_as_torch_does() -> None:
    net = make_net()
    optim = FusedAdam(net.parameters(), 0.01, fused=True)
    first, *others = net.parameters()
    before = [p.detach().clone() for p in others]
    for _ in range(3):
        first.grad = torch.ones_like(first)
        optim.step()
    assert all(map(torch.equal, before, others)) and optim.state[first]["step"] == 3


def test_the_step_in_plain_operations_is_the_kernels() -> None:
    net = make_net()
    twin = deepcopy(net)
    optim = FusedAdam(net.parameters(), 0.01, fused=True, weight_decay=0.1)
    group = optim.param_groups[0]
    moments = [[torch.zeros_like(p) for p in twin.parameters()] for _ in range(2)]
    for k in range(1, 6):
        for p in net.parameters():
            p.grad = (p.detach() * k).cos()
        grads = [p.grad for p in net.parameters()]
        optim.step()
        with torch.no_grad():
            for arrays in zip(twin.parameters(), grads, *moments, strict=True):
                adam_step(*arrays, torch.tensor(float(k)), group)
    for left, right in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def equal_states(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal_states(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal_states, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("tau", [0.0, 0.005, 1.0])
def test_averaging_moves_targets_by_their_share_in_place(tau: float) -> None:
    target, online = make_net(0), make_net(1)
    before, places = deepcopy(target), [p.data_ptr() for p in target.parameters()]
    source = deepcopy(online)
    polyak_update(target, online, tau)
    for old, new, fast in zip(
        before.parameters(), target.parameters(), source.parameters(), strict=True
    ):
        torch.testing.assert_close(new, (1 - tau) * old + tau * fast, rtol=1e-12, atol=1e-15)
    assert places == [p.data_ptr() for p in target.parameters()]
    for left, right in zip(online.parameters(), source.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_transposed_gradient_moves_the_entries_it_belongs_to() -> None:
    """Fused Adam reads memory, not indices; a second derivative may come out transposed."""
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    grad = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).t()
    param = torch.nn.Parameter(start.clone())
    apply_gradients(make_adam([param], 1e-3), [param], [grad])
    torch.testing.assert_close(param.detach(), start - 1e-3 * grad.sign(), rtol=0, atol=1e-6)
    assert param.grad is None


def two_steps(optim: torch.optim.Optimizer, params: list[torch.Tensor]) -> None:
    for factor in (1.0, -2.0):
        apply_gradients(optim, params, [factor * p.detach() for p in params])


def test_loading_an_optimiser_fills_the_tensors_there_are() -> None:
    first, second = ([torch.ones(3, requires_grad=True)] for _ in range(2))
    saved, optim = make_adam(first, 0.1), make_adam(second, 0.2)
    two_steps(saved, first)
    two_steps(optim, second)
    places = {name: x.data_ptr() for name, x in optim.state[second[0]].items()}
    load_optimizer(optim, deepcopy(saved.state_dict()))
    assert {name: x.data_ptr() for name, x in optim.state[second[0]].items()} == places
    for name, value in saved.state[first[0]].items():
        assert torch.equal(optim.state[second[0]][name], value)
    assert optim.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("saved_rate, rate", [(0.25, torch.tensor(0.5)), (torch.tensor(0.5), 0.25)])
def test_a_rate_stays_of_its_kind_and_takes_the_saved_value(saved_rate, rate) -> None:
    """A run saved on a GPU, whose rate is a tensor there, may go on elsewhere."""
    kind, wanted = type(rate), float(saved_rate)
    saved = torch.optim.Adam([torch.ones(3, requires_grad=True)], saved_rate, fused=True)
    optim = torch.optim.Adam([torch.ones(3, requires_grad=True)], rate, fused=True)
    load_optimizer(optim, saved.state_dict())
    now = optim.param_groups[0]["lr"]
    assert type(now) is kind and float(now) == wanted
    assert kind is float or now is rate


def test_loading_a_state_without_moments_starts_them_afresh_in_place() -> None:
    one, two = ([torch.arange(3.0, requires_grad=True)] for _ in range(2))
    never_stepped, optim = make_adam(one, 0.1), make_adam(two, 0.1)
    start = deepcopy(never_stepped.state_dict())
    two_steps(optim, two)
    places = {name: x.data_ptr() for name, x in optim.state[two[0]].items()}
    load_optimizer(optim, start)
    with torch.no_grad():
        two[0].copy_(one[0])
    assert {name: x.data_ptr() for name, x in optim.state[two[0]].items()} == places
    two_steps(optim, two)
    two_steps(never_stepped, one)
    assert torch.equal(one[0], two[0])


def test_networks_that_descend_apart_take_the_steps_they_would_take_alone() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2)]
    alone = deepcopy(nets)
    optims, others = ([make_adam(net.parameters(), 1e-2) for net in x] for x in (nets, alone))
    for _ in range(3):
        x = torch.randn(8, 3)
        descend_apart(
            nets[0](x).square().mean() + (nets[1](x) - 1).square().mean(),
            list(zip(nets, optims, strict=True)),
        )
        descend(alone[0](x).square().mean(), alone[0], others[0])
        descend((alone[1](x) - 1).square().mean(), alone[1], others[1])
    for net, other in zip(nets, alone, strict=True):
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q) and p.grad is None
