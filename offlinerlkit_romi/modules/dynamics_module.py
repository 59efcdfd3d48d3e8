"""Gaussian ensemble that predicts the change of the observation and the reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.nets import EnsembleLinear

Swish = nn.SiLU
LayerCall = tuple[EnsembleLinear, torch.Tensor, torch.Tensor]


def soft_clamp(
    x: torch.Tensor, lower: torch.Tensor | None = None, upper: torch.Tensor | None = None
) -> torch.Tensor:
    """Keep `x` between the bounds smoothly, so that the gradient never vanishes altogether."""
    if upper is not None:
        x = upper - F.softplus(upper - x)
    if lower is not None:
        x = lower + F.softplus(x - lower)
    return x


def clamp_slopes(
    raw: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of `soft_clamp(raw, low, high)` with respect to `low` and to `high`, (..., D).

    With x = high - softplus(high - raw) and l = low + softplus(x - low):
    dl = s sigmoid(raw - high) dhigh + (1 - s) dlow, s = sigmoid(x - low).
    """
    x = high - F.softplus(high - raw)
    share = torch.sigmoid(x - low)
    return 1 - share, share * torch.sigmoid(raw - high)


class EnsembleDynamicsModel(nn.Module):
    """E networks (s, a) -> mean and log-variance of [delta obs, reward].

    Args:
        obs_dim: S.
        action_dim: A.
        hidden_dims: widths of the hidden layers.
        num_ensemble: E.
        num_elites: how many members rollouts use.
        activation: module class after each hidden layer.
        weight_decays: one factor per layer, output layer included; none means zeros.
        with_reward: predict the reward as the last output.
        device: where the parameters live.

    Raises:
        ValueError: the number of weight decays is not the number of layers.
    """

    elites: torch.Tensor

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        num_ensemble: int = 7,
        num_elites: int = 5,
        activation: type[nn.Module] = Swish,
        weight_decays: Sequence[float] | None = None,
        with_reward: bool = True,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        decays = [0.0] * (len(hidden_dims) + 1) if weight_decays is None else list(weight_decays)
        if len(decays) != len(hidden_dims) + 1:
            raise ValueError(f"{len(hidden_dims) + 1} layers, but {len(decays)} weight decays")
        self.num_ensemble = num_ensemble
        self.num_elites = num_elites
        self.output_dim = obs_dim + int(with_reward)
        self.activation = activation()
        widths = [obs_dim + action_dim, *hidden_dims]
        self.backbones = nn.ModuleList(
            EnsembleLinear(fan_in, fan_out, num_ensemble, decay)
            for fan_in, fan_out, decay in zip(widths[:-1], widths[1:], decays[:-1], strict=True)
        )
        self.output_layer = EnsembleLinear(
            widths[-1], 2 * self.output_dim, num_ensemble, decays[-1]
        )
        self.max_logvar = nn.Parameter(torch.full((self.output_dim,), 0.5))
        self.min_logvar = nn.Parameter(torch.full((self.output_dim,), -10.0))
        self.register_buffer("elites", torch.arange(num_elites))
        self.to(device)

    @property
    def layers(self) -> list[EnsembleLinear]:
        """All linear layers, input to output."""
        return [*self.backbones, self.output_layer]

    def forward(self, obs_action: ArrayLike) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S+A) or (E, B, S+A) -> mean, log-variance, both (E, B, D)."""
        hidden = as_input(obs_action, self)
        for layer in self.backbones:
            hidden = self.activation(layer(hidden))
        return _mean_and_logvar(self, self.output_layer(hidden))

    def forward_members(
        self, obs_action: torch.Tensor, members: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, B, S+A) through the members (M,) alone -> mean, log-variance, both (M, B, D)."""
        hidden = obs_action
        for layer in self.layers[:-1]:
            hidden = self.activation(layer.forward_members(hidden, members))
        return _mean_and_logvar(self, self.output_layer.forward_members(hidden, members))

    def load_save(self) -> None:
        """Put the remembered weights back; the log-variance bounds stay (kit behaviour)."""
        for layer in self.layers:
            layer.load_save()

    def update_save(self, indexes: Sequence[int] | torch.Tensor) -> None:
        """Remember the present weights of these members."""
        for layer in self.layers:
            layer.update_save(indexes)

    def get_decay_loss(self) -> torch.Tensor:
        """Sum of the layers' L2 terms."""
        return torch.stack([layer.get_decay_loss() for layer in self.layers]).sum()

    def set_elites(self, indexes: Sequence[int] | torch.Tensor) -> None:
        """Name the members that rollouts use.

        Raises:
            ValueError: an index is out of range, none is given, or more than there are members.
        """
        elites = torch.as_tensor(indexes, dtype=torch.long, device=self.elites.device)
        known = set(range(self.num_ensemble))
        if not len(elites) or len(elites) > self.num_ensemble or set(elites.tolist()) - known:
            raise ValueError(f"elites {elites.tolist()} do not fit {self.num_ensemble} members")
        self.elites = elites

    def random_elite_idxs(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """A random elite per row, (batch_size,)."""
        draw = torch.randint(
            len(self.elites), (batch_size,), device=self.elites.device, generator=generator
        )
        return self.elites[draw]


def forward_recorded(
    model: Any, obs_action: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[LayerCall]]:
    """A model's `forward` that also returns (layer, its input, its output) per linear layer.

    With the loss's gradient at the outputs this is all that per-row parameter gradients need.

    Args:
        model: an `EnsembleDynamicsModel`, this one or OfflineRL-Kit's.
        obs_action: (B, S+A).
    """
    calls: list[LayerCall] = []
    hidden = obs_action
    for layer in model.backbones:
        output = layer(hidden)
        calls.append((layer, hidden, output))
        hidden = model.activation(output)
    output = model.output_layer(hidden)
    calls.append((model.output_layer, hidden, output))
    return *_mean_and_logvar(model, output), calls


def _mean_and_logvar(model: Any, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, logvar = output.chunk(2, dim=-1)
    return mean, soft_clamp(logvar, model.min_logvar, model.max_logvar)
