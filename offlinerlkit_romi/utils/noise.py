"""Exploration noise for deterministic policies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

Generator = np.random.Generator | torch.Generator


def _standard_normal(size: Sequence[int], generator: Generator) -> NDArray[Any]:
    if isinstance(generator, torch.Generator):
        draw = torch.randn(tuple(size), generator=generator, device=generator.device)
        return draw.cpu().numpy()
    return generator.standard_normal(tuple(size), dtype=np.float32)


class GaussianNoise:
    """Independent normal noise.

    Args:
        mu: Mean.
        sigma: Standard deviation.
        generator: Source of the draws, numpy's or torch's; by default one of its own, unseeded.
    """

    def __init__(self, mu: float = 0.0, sigma: float = 1.0, generator: Generator | None = None):
        if sigma < 0:
            raise UserError(f"noise with sigma={sigma}: a standard deviation is not negative")
        self.mu, self.sigma = mu, sigma
        self.generator = np.random.default_rng() if generator is None else generator

    def __call__(self, size: Sequence[int]) -> NDArray[Any]:
        """Return noise of shape `size`, float32."""
        return np.float32(self.mu) + np.float32(self.sigma) * _standard_normal(size, self.generator)


class OUNoise:
    """Noise with a memory: an Ornstein-Uhlenbeck process by the Euler-Maruyama rule.

    ``x <- x + theta (mu - x) dt + sigma sqrt(dt) n`` with n standard normal.

    Args:
        mu: Where x drifts to.
        sigma: Strength of the noise.
        theta: Rate of the drift, per unit of time.
        dt: Time per call.
        x0: Start, by default 0.
        generator: As in `GaussianNoise`.
    """

    def __init__(
        self,
        mu: float = 0.0,
        sigma: float = 0.3,
        theta: float = 0.15,
        dt: float = 1e-2,
        x0: float | NDArray[Any] | None = None,
        generator: Generator | None = None,
    ):
        if sigma < 0 or dt <= 0:
            raise UserError(f"noise with sigma={sigma}, dt={dt}: give sigma >= 0 and dt > 0")
        self.mu, self.sigma, self.theta, self.dt, self.x0 = mu, sigma, theta, dt, x0
        self.generator = np.random.default_rng() if generator is None else generator
        self.reset()

    def reset(self) -> None:
        """Go back to the start."""
        self._x: NDArray[Any] = np.asarray(0.0 if self.x0 is None else self.x0, np.float32)

    def __call__(self, size: Sequence[int]) -> NDArray[Any]:
        """Take one step and return x of shape `size`, float32. A new shape starts anew."""
        if self._x.shape != tuple(size):
            self.reset()
        drift = self.theta * (self.mu - self._x) * self.dt
        kick = self.sigma * np.sqrt(self.dt) * _standard_normal(size, self.generator)
        self._x = (self._x + drift + kick).astype(np.float32)
        return self._x
