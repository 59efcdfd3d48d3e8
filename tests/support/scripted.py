"""Buffers, weights and draws that a test decides, so that an update can be replayed by hand."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tests.support.policies import FLOAT64

Batch = dict[str, torch.Tensor]


class ScriptedBuffer:
    """Hands out the given batches in order, then starts over."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = list(batches)
        self.calls = 0

    def sample(self, batch_size: int) -> Batch:
        batch = self.batches[self.calls % len(self.batches)]
        self.calls += 1
        assert len(batch["rewards"]) == batch_size
        return batch


class ConstantWeights(nn.Module):
    """w = 1 for every transition, with a parameter that a gradient can reach."""

    low, high = 0.5, 2.0

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.zeros(1, dtype=FLOAT64))

    def forward(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor):
        return 1 + 0 * self.free.expand(len(obs), 1)


def twin(generator: torch.Generator) -> torch.Generator:
    """A generator that will repeat the draws of `generator`."""
    copy = torch.Generator()
    copy.set_state(generator.get_state())
    return copy


def draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=FLOAT64, generator=generator)


def proposal_draws(
    source: torch.Generator, rows: int, low: float = -1.0, high: float = 1.0, repeats: int = 3
) -> dict[str, Any]:
    """A conservative update's draws of proposals, as the references take them (R, B, A)."""
    shape = (rows, repeats, 2)
    draws = torch.rand(shape, dtype=FLOAT64, generator=source)
    uniform = (low + (high - low) * draws).transpose(0, 1)
    noise = draw(source, *shape).transpose(0, 1), draw(source, *shape).transpose(0, 1)
    return dict(noise=noise, uniform=uniform, low=low, high=high)


def plain_adam(params, lr: float = 1e-3) -> torch.optim.Adam:
    """torch's per-tensor Adam: no fused, no multi-tensor kernel."""
    return torch.optim.Adam(params, lr=lr, fused=False, foreach=False)


def assert_same_parameters(left: nn.Module, right: nn.Module, tolerance: float = 1e-9) -> None:
    names = dict(right.named_parameters())
    for name, value in left.named_parameters():
        torch.testing.assert_close(
            value, names[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
