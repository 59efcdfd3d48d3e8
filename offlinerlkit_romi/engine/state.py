"""What training mutates, as tensors and plain values, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from offlinerlkit_romi.engine.optim import load_optimizer
from offlinerlkit_romi.errors import UserError


class Counts(Counter[str]):
    """Whole numbers that the host counts while the device works, by name.

    A captured graph replays the device's work alone; what was counted while it was captured is
    counted again at every replay.
    """

    def state_dict(self) -> dict[str, int]:
        """The numbers, for a checkpoint."""
        return dict(self)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on counting where `state` was taken."""
        self.clear()
        self.update({name: int(value) for name, value in state.items()})


def capture(parts: Mapping[str, Any]) -> dict[str, Any]:
    """States of modules, optimisers, tensors, generators and whatever has a `state_dict`.

    The tensors are those of the parts, not copies: write them out before training goes on.
    """
    return {name: _state_of(part) for name, part in parts.items()}


@torch.no_grad()
def restore(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Put a captured state back in place.

    Raises:
        UserError: The state is of other parts, or of parts of another shape.
    """
    odd = sorted(parts.keys() ^ state.keys())
    if odd:
        where = "missing in" if odd[0] in parts else "unknown to"
        raise UserError(f"the saved state is of another policy: {odd[0]} is {where} one of them")
    for name, part in parts.items():
        try:
            _put_back(part, state[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"the saved state does not fit: {name} is of another kind") from error


def count_bytes(state: Any) -> int:
    """Bytes of all tensors in a captured state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(count_bytes(value) for value in state.values())
    return sum(map(count_bytes, state)) if isinstance(state, (list, tuple)) else 0


def alike(one: Any, other: Any) -> bool:
    """Whether two captured states are equal, number by number; NaN is itself."""
    if isinstance(one, torch.Tensor):
        return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(alike(x, other[k]) for k, x in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def _state_of(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, torch.Tensor):
        return part.detach()
    return part.state_dict()


def _put_back(part: Any, value: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(value)
    elif isinstance(part, torch.Tensor):
        if part.shape != value.shape:
            raise ValueError(f"{tuple(part.shape)} is not {tuple(value.shape)}")
        part.detach().copy_(value)
    elif isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, value)
    else:
        part.load_state_dict(value)
