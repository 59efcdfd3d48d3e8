"""Gaussian action distributions.

Plain classes instead of `torch.distributions`: noise can be handed in or drawn from a generator of
its own, and an update spends no time on argument checks.
"""

from __future__ import annotations

import math

import torch
from torch import nn

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class NormalWrapper:
    """Diagonal Gaussian; log-densities are summed over action dimensions.

    Args:
        loc: mean (B, A).
        scale: standard deviation (B, A).
    """

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor) -> None:
        self.loc = loc
        self.scale = scale

    @property
    def mean(self) -> torch.Tensor:
        """Mean before any squashing, (B, A)."""
        return self.loc

    @property
    def stddev(self) -> torch.Tensor:
        """Standard deviation before any squashing, (B, A)."""
        return self.scale

    def noise(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Standard normal noise of the shape of one sample, (B, A)."""
        return torch.randn(
            self.loc.shape, dtype=self.loc.dtype, device=self.loc.device, generator=generator
        )

    def gaussian_log_prob(self, raw_action: torch.Tensor) -> torch.Tensor:
        """Log-density of the unsquashed Gaussian, (B, A) -> (B, 1)."""
        z = (raw_action - self.loc) / self.scale
        return (-0.5 * z.square() - self.scale.log() - LOG_SQRT_2PI).sum(-1, keepdim=True)

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """(B, A) -> (B, 1)."""
        return self.gaussian_log_prob(actions)

    def entropy(self) -> torch.Tensor:
        """Differential entropy of the Gaussian, (B,)."""
        return (0.5 + LOG_SQRT_2PI + self.scale.log()).sum(-1)

    def mode(self) -> torch.Tensor:
        """The mean, (B, A)."""
        return self.loc

    def rsample(
        self, noise: torch.Tensor | None = None, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """A reparameterised sample (B, A); `noise` (B, A) fixes it."""
        noise = self.noise(generator) if noise is None else noise
        return self.loc + self.scale * noise

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """A sample without gradient, (B, A)."""
        with torch.no_grad():
            return self.rsample(generator=generator)


class TanhNormalWrapper(NormalWrapper):
    """Gaussian squashed to (-max_action, max_action); samples come as (action, raw action).

    Args:
        loc: mean of the raw action (B, A).
        scale: its standard deviation (B, A).
        max_action: half-width of the action box.
    """

    EPS = 1e-6  # keeps the log of the squashing's derivative finite at the box's edge

    def __init__(
        self, loc: torch.Tensor, scale: torch.Tensor, max_action: float | torch.Tensor
    ) -> None:
        super().__init__(loc, scale)
        self._max_action = max_action

    def log_prob(
        self, action: torch.Tensor, raw_action: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, A) -> (B, 1); without the raw action it is recovered by a clamped inverse."""
        squashed = action / self._max_action
        if raw_action is None:
            raw_action = self.arctanh(squashed)
        jacobian = torch.log(self._max_action * (1 - squashed.square()) + self.EPS)
        return self.gaussian_log_prob(raw_action) - jacobian.sum(-1, keepdim=True)

    def mode(self) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """The squashed mean and the mean, both (B, A)."""
        return self._max_action * torch.tanh(self.loc), self.loc

    def rsample(  # type: ignore[override]
        self, noise: torch.Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A reparameterised (action, raw action), both (B, A)."""
        raw_action = super().rsample(noise, generator)
        return self._max_action * torch.tanh(raw_action), raw_action

    def sample(  # type: ignore[override]
        self, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An (action, raw action) without gradient, both (B, A)."""
        with torch.no_grad():
            return self.rsample(generator=generator)

    @staticmethod
    def arctanh(x: torch.Tensor) -> torch.Tensor:
        """Inverse of tanh; its arguments are kept 1e-6 inside the box."""
        return 0.5 * torch.log((1 + x).clamp(min=1e-6) / (1 - x).clamp(min=1e-6))


class DiagGaussian(nn.Module):
    """Head that turns features into a diagonal Gaussian over actions.

    Args:
        latent_dim: width of the features.
        output_dim: A.
        unbounded: leave the mean as it is instead of max_mu * tanh.
        conditioned_sigma: standard deviation from the features, its log clamped to [sigma_min,
            sigma_max]; otherwise one free log per action dimension, not clamped (kit behaviour).
        max_mu: bound of the mean, and of the action for `TanhDiagGaussian`.
        sigma_min: lower bound of the log standard deviation.
        sigma_max: upper bound of the log standard deviation.
    """

    def __init__(
        self,
        latent_dim: int,
        output_dim: int,
        unbounded: bool = False,
        conditioned_sigma: bool = False,
        max_mu: float | torch.Tensor = 1.0,
        sigma_min: float = -5.0,
        sigma_max: float = 2.0,
    ) -> None:
        super().__init__()
        self.mu = nn.Linear(latent_dim, output_dim)
        if conditioned_sigma:
            self.sigma: nn.Linear | None = nn.Linear(latent_dim, output_dim)
        else:
            self.sigma = None
            self.sigma_param = nn.Parameter(torch.zeros(output_dim, 1))
        self._unbounded = unbounded
        self._max = max_mu
        self._log_sigma_range = (sigma_min, sigma_max)

    def gaussian(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, latent_dim) -> mean (B, A), standard deviation (B, A)."""
        mean = self.mu(features)
        if not self._unbounded:
            mean = self._max * torch.tanh(mean)
        if self.sigma is not None:
            log_sigma = self.sigma(features).clamp(*self._log_sigma_range)
        else:
            # (A, 1) -> (B, A)
            log_sigma = self.sigma_param.view(1, -1).expand_as(mean)
        return mean, log_sigma.exp()

    def forward(self, logits: torch.Tensor) -> NormalWrapper:
        """(B, latent_dim) -> distribution over (B, A)."""
        return NormalWrapper(*self.gaussian(logits))


class TanhDiagGaussian(DiagGaussian):
    """`DiagGaussian` squashed by tanh to the action box."""

    def forward(self, logits: torch.Tensor) -> TanhNormalWrapper:
        """(B, latent_dim) -> distribution over (B, A)."""
        return TanhNormalWrapper(*self.gaussian(logits), self._max)
