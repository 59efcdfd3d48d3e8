"""Optimiser construction and target averaging."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def make_adam(
    params: Iterable[torch.Tensor] | Iterable[dict[str, object]], lr: float
) -> torch.optim.Adam:
    """Adam with torch's default moments; the fused kernel makes one pass over all parameters."""
    return torch.optim.Adam(params, lr=lr, fused=True)


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move every target parameter a share `tau` towards its online twin, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)


def apply_gradients(
    optim: torch.optim.Optimizer,
    params: Iterable[torch.Tensor],
    grads: Iterable[torch.Tensor | None],
) -> None:
    """One optimiser step along gradients that were computed apart from `.grad`."""
    pairs = list(zip(params, grads, strict=True))
    for param, grad in pairs:
        param.grad = grad if grad is None else _laid_out_like(param, grad)
    optim.step()
    for param, _ in pairs:
        param.grad = None


def descend(loss: torch.Tensor, module: nn.Module, optim: torch.optim.Optimizer) -> None:
    """One optimiser step of this module alone: no other network's gradient is computed or kept."""
    params = list(module.parameters())
    apply_gradients(optim, params, torch.autograd.grad(loss, params))


def frozen_copy(module: Module) -> Module:
    """A copy that no gradient reaches: the start of a target network."""
    return deepcopy(module).requires_grad_(False)


def _laid_out_like(param: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """The gradient in the parameter's memory order.

    `backward` sees to this, `torch.autograd.grad` does not, and torch's fused Adam reads both as
    flat arrays: a transposed gradient would move the wrong entries.
    """
    if grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)
