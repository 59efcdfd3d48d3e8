"""Optimiser construction and target averaging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def make_adam(
    params: Iterable[torch.Tensor] | Iterable[dict[str, object]], lr: float
) -> torch.optim.Adam:
    """Adam with torch's default moments; the fused kernel makes one pass over all parameters.

    On CUDA its rate is a tensor there, which a captured graph reads at every replay: a schedule
    writes into it.
    """
    groups: list[Any] = list(params)
    device = next(_tensors(groups)).device
    if device.type != "cuda":
        return torch.optim.Adam(groups, lr=lr, fused=True)
    rate = torch.tensor(lr, dtype=torch.float32, device=device)
    return torch.optim.Adam(groups, lr=rate, fused=True, capturable=True)


@torch.no_grad()
def load_optimizer(optim: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """`optim.load_state_dict` into the tensors there are, wherever the state was saved.

    torch puts new tensors in their place, which a captured graph would never see, and takes over
    how the saved optimiser ran: a rate on the host for one on the device, or the other way round.
    Moments of a parameter that the saved one had not stepped yet become zero, as they would start.

    Raises:
        ValueError: the state is of another optimiser.
    """
    groups = [dict(group) for group in optim.param_groups]
    moments = {param: dict(values) for param, values in optim.state.items()}
    optim.load_state_dict(dict(state))
    for group, before in zip(optim.param_groups, groups, strict=True):
        rate = group["lr"]
        if isinstance(before["lr"], torch.Tensor):
            rate = before["lr"].copy_(torch.as_tensor(rate))
        group["lr"] = rate if isinstance(before["lr"], torch.Tensor) else float(rate)
        for name in ("fused", "foreach", "capturable"):
            if name in before:
                group[name] = before[name]
    for param, before in moments.items():
        values = optim.state[param]
        for name, old in before.items():
            if isinstance(old, torch.Tensor):
                values[name] = old.copy_(values[name]) if name in values else old.zero_()


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


def descend_apart(
    loss: torch.Tensor, parts: Sequence[tuple[nn.Module, torch.optim.Optimizer]]
) -> None:
    """`descend` for networks that share no parameter: one backward pass, one step of each."""
    params = [list(module.parameters()) for module, _ in parts]
    grads = iter(torch.autograd.grad(loss, [p for group in params for p in group]))
    for group, (_, optim) in zip(params, parts, strict=True):
        apply_gradients(optim, group, [next(grads) for _ in group])


def frozen_copy(module: Module) -> Module:
    """A copy that no gradient reaches: the start of a target network."""
    return deepcopy(module).requires_grad_(False)


def _tensors(groups: Iterable[Any]) -> Iterator[torch.Tensor]:
    for part in groups:
        yield from iter(part["params"]) if isinstance(part, dict) else (part,)


def _laid_out_like(param: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """The gradient in the parameter's memory order.

    `backward` sees to this, `torch.autograd.grad` does not, and torch's fused Adam reads both as
    flat arrays: a transposed gradient would move the wrong entries.
    """
    if grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)
