"""Twin critics as one batched product per layer.

Names, shapes and checkpoints of the two networks stay; only their memory is shared. Every small
kernel then serves both, which on a GPU halves their number. On a CPU there is nothing to gain: a
launch costs little, and one network fits its cache better than two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from offlinerlkit_romi.modules.actor_critic import Critic
from offlinerlkit_romi.nets import MLP

Twins = tuple[nn.Module, nn.Module]
WORTH_IT_ON = ["cuda"]  # device types


def lay_side_by_side(twins: Twins) -> None:
    """Move like parameters of two critics next to each other, where `twin_values` uses them as one.

    The parameters stay the same objects with the same values, so that their optimisers notice
    nothing. Networks that are not alike, not plain `Critic`s with ReLU, or on a device where it
    would not pay (`WORTH_IT_ON`), are left alone.
    """
    first, second = (_linears(critic) for critic in twins)
    if first is None or second is None or twins[0] is twins[1]:
        return
    pairs = list(zip(_parameters(first), _parameters(second), strict=False))
    alike = all((p.shape, p.device, p.dtype) == (q.shape, q.device, q.dtype) for p, q in pairs)
    if not alike or len(first) != len(second) or pairs[0][0].device.type not in WORTH_IT_ON:
        return
    for one, other in pairs:
        both = torch.stack([one.detach(), other.detach()])
        one.data, other.data = both[0], both[1]


def twin_values(
    twins: Twins, obs: torch.Tensor, action: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Q_1(s, a) and Q_2(s, a), (B, S), (B, A) -> (B, 1) each.

    Critics that `lay_side_by_side` has moved are evaluated together, others one after the other.
    """
    layers = _shared_layers(twins)
    if layers is None:
        return twins[0](obs, action), twins[1](obs, action)
    # (B, S+A) -> (2, B, S+A), without a copy
    hidden = torch.cat([obs, action], dim=1).expand(2, -1, -1)
    for weight, bias in layers[:-1]:
        hidden = F.relu(torch.baddbmm(bias, hidden, weight), inplace=True)
    weight, bias = layers[-1]
    q1, q2 = torch.baddbmm(bias, hidden, weight).unbind()
    return q1, q2


class _SideBySide(torch.autograd.Function):
    """(p_1 ... p_n, q_1 ... q_n) -> n tensors (2, *shape), each over a p and its q in memory."""

    @staticmethod
    def forward(*parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = parameters[: len(parameters) // 2]
        return tuple(p.as_strided((2, *p.shape), (p.numel(), *p.stride())) for p in first)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *(grad[0] for grad in grads), *(grad[1] for grad in grads)


def _shared_layers(twins: Twins) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    """Weight (2, in, out) and bias (2, 1, out) of each layer; none unless all lie side by side."""
    one, other = twins
    if not (isinstance(one, Critic) and isinstance(other, Critic)) or torch.compiler.is_compiling():
        return None  # a compiler cannot follow where tensors lie
    if not _adjacent(one.last.weight, other.last.weight):  # soon told
        return None
    first, second = _linears(one), _linears(other)
    if first is None or second is None or len(first) != len(second):
        return None
    ours, theirs = _parameters(first), _parameters(second)
    if not all(_adjacent(p, q) for p, q in zip(ours, theirs, strict=True)):
        return None
    both = _SideBySide.apply(*ours, *theirs)
    # (2, out, in) -> (2, in, out), (2, out) -> (2, 1, out)
    return [(w.transpose(1, 2), b.unsqueeze(1)) for w, b in zip(both[::2], both[1::2], strict=True)]


def _adjacent(one: torch.Tensor, other: torch.Tensor) -> bool:
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    return (
        same
        and one.shape == other.shape
        and one.is_contiguous()
        and other.storage_offset() == one.storage_offset() + one.numel()
    )


def _linears(critic: nn.Module) -> list[nn.Linear] | None:
    """The linear layers of a `Critic` that has nothing but ReLU between them."""
    if not isinstance(critic, Critic) or not isinstance(critic.backbone, MLP):
        return None
    hidden = list(critic.backbone.model)
    pairs = zip(hidden[::2], hidden[1::2], strict=False)
    plain = len(hidden) % 2 == 0 and all(
        type(layer) is nn.Linear and type(activation) is nn.ReLU for layer, activation in pairs
    )
    return [*hidden[::2], critic.last] if plain else None  # type: ignore[list-item]


def _parameters(layers: list[nn.Linear]) -> list[torch.Tensor]:
    return [p for layer in layers for p in (layer.weight, layer.bias)]
