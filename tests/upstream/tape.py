"""Random numbers that both libraries are handed, from numpy's frozen `RandomState` stream.

Not torch's own generator: its stream is nobody's promise, and goldens must outlive torch versions.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn


class Tape:
    """Normal and uniform numbers, and choices, each in order of demand and in any shape."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.RandomState(seed)
        # of their own: the kit chooses members after drawing noise, we before it
        self._choices = np.random.RandomState(seed + 1)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._rng.standard_normal(shape)).float()

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._rng.random_sample(shape)).float()

    def permutation(self, n: int) -> torch.Tensor:
        return torch.from_numpy(self._choices.permutation(n))

    def choice(self, count: int, n: int) -> torch.Tensor:
        """One of `count` for each of n rows, shared out evenly as our rollouts do."""
        group = -(-n // count)
        return self.permutation(count * group)[:n] // group


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape


@contextmanager
def replay(seed: int) -> Iterator[Tape]:
    """Within, whatever torch draws comes from one tape; what generator is asked does not matter.

    Two programs that draw as many numbers in the same order get the same ones.
    """
    tape = Tape(seed)

    def randn(*shape: Any, dtype: Any = None, **_: Any) -> torch.Tensor:
        return tape.normal(*_shape(shape)).to(dtype or torch.float32)

    def rand(*shape: Any, dtype: Any = None, **_: Any) -> torch.Tensor:
        return tape.uniform(*_shape(shape)).to(dtype or torch.float32)

    def standard_normal(shape: Any, dtype: Any, device: Any) -> torch.Tensor:
        return tape.normal(*shape).to(dtype)

    def normal(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        # of an ensemble's samples one member's is used per row: all may share the row's noise
        return mean + std * tape.normal(*mean.shape[-2:]).to(mean)

    def uniform_(self: torch.Tensor, low: float = 0, high: float = 1, **_: Any) -> torch.Tensor:
        return self.copy_(low + (high - low) * tape.uniform(*self.shape))

    def np_normal(size: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(tape.normal(*size[-2:]).double().numpy(), size)

    def np_uniform(low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        return low + (high - low) * tape.uniform(*size).double().numpy()

    def np_choice(options: np.ndarray, size: int) -> np.ndarray:
        return options[tape.choice(len(options), size).numpy()]

    with (
        mock.patch.object(torch, "randn", randn),
        mock.patch.object(torch, "rand", rand),
        mock.patch.object(torch, "randn_like", lambda x, **_: tape.normal(*x.shape).to(x)),
        mock.patch.object(torch, "normal", normal),
        mock.patch.object(torch.Tensor, "uniform_", uniform_),
        mock.patch.object(torch.distributions.normal, "_standard_normal", standard_normal),
        mock.patch.object(torch, "randperm", lambda n, **_: tape.permutation(n)),
        mock.patch.object(torch, "randint", lambda n, shape, **_: tape.choice(n, shape[0])),
        mock.patch.object(np.random, "normal", np_normal),
        mock.patch.object(np.random, "uniform", np_uniform),
        mock.patch.object(np.random, "choice", np_choice),
    ):
        yield tape


@torch.no_grad()
def fill(module: nn.Module, seed: int = 0) -> None:
    """Weights that depend on the seed and their name alone: the same in both libraries."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            tape = Tape(zlib.crc32(f"{seed}/{name}".encode()))
            if name.endswith("logvar"):
                value.add_(0.1 * tape.normal(*value.shape))
                continue
            fan_in = value.shape[-1] if value.dim() == 2 else value.shape[-2:][0]
            value.copy_(tape.normal(*value.shape) / max(fan_in, 4) ** 0.5)


def batches(count: int, rows: int, obs_dim: int, action_dim: int, seed: int = 0) -> list[Any]:
    """Random transitions with some terminals, float32."""
    tape = Tape(seed)
    made = []
    for _ in range(count):
        obs = tape.normal(rows, obs_dim)
        made.append(
            {
                "observations": obs,
                "actions": 1.98 * tape.uniform(rows, action_dim) - 0.99,
                "next_observations": obs + 0.3 * tape.normal(rows, obs_dim),
                "rewards": tape.normal(rows, 1),
                "terminals": (tape.uniform(rows, 1) < 0.2).float(),
            }
        )
    return made
