"""Optimiser steps and target averaging."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from offlinerlkit_romi.engine import apply_gradients, make_adam, polyak_update


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
