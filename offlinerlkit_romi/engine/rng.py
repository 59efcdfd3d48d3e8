"""Named random generators, so that every draw has one owner and one seed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

# torch's initialisers all draw from one generator: side by side, one at a time
_INITIALISING = threading.RLock()
NAMES = ("data", "model", "policy", "evaluation")


def derive_seed(seed: int, name: str) -> int:
    """A seed of its own for `name`, the same on every machine.

    Neighbouring run seeds must not give overlapping streams, hence a hash and not `seed + k`.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Generators:
    """One `torch.Generator` per purpose on the device: `data`, `model`, `policy`, `evaluation`.

    Args:
        seed: the run's seed; all generators derive from it.
        device: where the draws happen.
    """

    data: torch.Generator
    model: torch.Generator
    policy: torch.Generator
    evaluation: torch.Generator

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.seed = int(seed)
        self.device = torch.device(device)
        for name in NAMES:
            generator = torch.Generator(device=self.device)
            generator.manual_seed(derive_seed(self.seed, name))
            setattr(self, name, generator)

    @contextmanager
    def initialisation(self, name: str) -> Iterator[None]:
        """Make the weights created inside depend on the run's seed and `name` alone.

        torch's layer initialisers read the CPU's global generator; it is put back afterwards.
        """
        with _INITIALISING, torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: it reseeds every device too, and those are not put back
            torch.default_generator.manual_seed(derive_seed(self.seed, f"initialisation/{name}"))
            yield

    def state_dict(self) -> dict[str, torch.Tensor]:
        """States of all generators, for a checkpoint."""
        return {name: getattr(self, name).get_state() for name in NAMES}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue exactly where `state` was taken."""
        for name in NAMES:
            getattr(self, name).set_state(state[name])


def normal(
    shape: Sequence[int], like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Standard normal draws of this shape, of the dtype and on the device of `like`."""
    return torch.randn(tuple(shape), dtype=like.dtype, device=like.device, generator=generator)


def uniform(
    shape: Sequence[int], like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Uniform draws on [0, 1) of this shape, of the dtype and on the device of `like`."""
    return torch.rand(tuple(shape), dtype=like.dtype, device=like.device, generator=generator)
