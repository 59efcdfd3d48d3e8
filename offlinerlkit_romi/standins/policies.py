"""Behaviour policies: the tanh-Gaussian actors of `behaviour/*.npz`, and uniform actions.

numpy alone, so that a worker process starts quickly and one batched call serves many simulators.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
WEIGHTS = ("w0", "b0", "w1", "b1", "w_mean", "b_mean", "w_log_std", "b_log_std")
RANDOM = "random"

Floats = NDArray[np.float32]


class Actor(Protocol):
    """What a worker asks of a behaviour policy."""

    def __call__(self, obs: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw actions (B, A) in [-1, 1] for observations (B, S), with their log density (B,)."""


class UniformActor:
    """Actions drawn uniformly from the box: D4RL's `random`."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def __call__(self, obs: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """See `Actor`."""
        action = 2.0 * rng.random((len(obs), self.action_dim), dtype=np.float32) - 1.0
        log_prob = np.full(len(obs), -self.action_dim * np.log(2.0), dtype=np.float32)
        return action, log_prob


class TanhGaussianActor:
    """`tanh(mean(obs) + exp(log_std(obs)) z)`: two ReLU layers, observations not normalised.

    Args:
        weights: float32 arrays named as in `WEIGHTS`; matrices are (inputs, outputs).
        mean_share: Share of the steps at which the mean action is taken instead of a drawn one;
            the log density is that of a drawn one there too.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.generic]], mean_share: float = 0.0) -> None:
        self.mean_share = mean_share
        self.weights = {name: np.asarray(weights[name], dtype=np.float32) for name in WEIGHTS}

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.weights["b_mean"])

    def distribution(self, obs: Floats) -> tuple[Floats, Floats]:
        """Mean and log standard deviation before the tanh, both (B, A)."""
        w = self.weights
        hidden = np.maximum(obs @ w["w0"] + w["b0"], 0.0)
        hidden = np.maximum(hidden @ w["w1"] + w["b1"], 0.0)
        log_std = np.clip(hidden @ w["w_log_std"] + w["b_log_std"], LOG_STD_MIN, LOG_STD_MAX)
        return hidden @ w["w_mean"] + w["b_mean"], log_std

    def __call__(self, obs: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """See `Actor`."""
        mean, log_std = self.distribution(obs)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        if self.mean_share:
            noise[rng.random(len(noise)) < self.mean_share] = 0.0
        raw = mean + np.exp(log_std) * noise
        gaussian = -0.5 * noise**2 - log_std - np.float32(0.5 * np.log(2.0 * np.pi))
        # log(1 - tanh(u)^2) without the cancellation at large |u|
        squash = 2.0 * (np.float32(np.log(2.0)) - raw - np.logaddexp(np.float32(0.0), -2.0 * raw))
        return np.tanh(raw), (gaussian - squash).sum(axis=1)


def load_actor(path: str | Path, action_dim: int, mean_share: float = 0.0) -> Actor:
    """The actor saved at `path`, or the uniform one when `path` is `RANDOM`."""
    if str(path) == RANDOM:
        return UniformActor(action_dim)
    with np.load(path, allow_pickle=False) as weights:
        return TanhGaussianActor(weights, mean_share)
