"""Optimiser construction and target averaging."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam, whose step is little more than its kernel.

    Settings, state and numbers are `torch.optim.Adam`'s. What is left out is the parent's grouping
    and checking at every step, which small networks feel and `torch.compile` cannot follow.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.Adam.step`; it takes the first step and what is out of the ordinary."""
        params = [p for group in self.param_groups for p in group["params"]]
        plain = not any(group["amsgrad"] or group["maximize"] for group in self.param_groups)
        started = all(p.grad is not None and p in self.state for p in params)
        if closure is not None or not plain or not started:
            # the function itself: hooks have been called around this one
            return inspect.unwrap(torch.optim.Adam.step)(self, closure)
        for group in self.param_groups:
            self._step(group)
        return None

    def _step(self, group: dict[str, Any]) -> None:
        params, (beta1, beta2) = group["params"], group["betas"]
        states = [self.state[p] for p in params]
        moments = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")]
        grads = [p.grad for p in params]
        counts = [state["step"] for state in states]
        torch._foreach_add_(counts, 1)
        if torch.compiler.is_compiling():  # which would not look into the kernel
            for p, grad, m, v, count in zip(params, grads, *moments, counts, strict=True):
                adam_step(p, grad, m, v, count, group)
            return
        torch._fused_adam_(  # type: ignore[call-overload]
            params,
            grads,
            *moments,
            [],
            counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def adam_step(
    param: torch.Tensor,
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    count: torch.Tensor,
    group: Mapping[str, Any],
) -> None:
    """Adam's step number `count` (from 1) of one parameter, in place, as plain operations."""
    (beta1, beta2), count = group["betas"], count.double()  # float32 powers lose 1 - beta2
    grad = grad + group["weight_decay"] * param if group["weight_decay"] else grad
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    rate = (group["lr"] / (1 - beta1**count)).to(param)
    root = (1 - beta2**count).sqrt().to(param)
    param.sub_(rate * exp_avg / (exp_avg_sq.sqrt() / root + group["eps"]))


def make_adam(
    params: Iterable[torch.Tensor] | Iterable[dict[str, object]], lr: float
) -> torch.optim.Adam:
    """Adam with torch's default moments; the fused kernel makes one pass over all parameters.

    Its rate is a tensor on the device, which a captured or compiled step reads every time: a
    schedule writes into it.
    """
    groups: list[Any] = list(params)
    device = next(_tensors(groups)).device
    if device.type != "cuda":
        return FusedAdam(groups, lr=torch.tensor(lr, dtype=torch.float64), fused=True)
    rate = torch.tensor(lr, dtype=torch.float32, device=device)
    return FusedAdam(groups, lr=rate, fused=True, capturable=True)


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
    if torch.compiler.is_compiling():
        type(optim).step(optim)  # a schedule wraps the instance's, which no compiler enters
    else:
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
