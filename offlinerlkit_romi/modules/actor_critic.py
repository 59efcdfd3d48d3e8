"""Actors and critics on top of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.modules.distributions import NormalWrapper
from offlinerlkit_romi.nets import EnsembleLinear, make_activation


class ActorProb(nn.Module):
    """Stochastic actor: backbone and distribution head.

    Args:
        backbone: features of the observation; has `output_dim`.
        dist_net: `DiagGaussian` or `TanhDiagGaussian`.
        device: where the parameters live.
    """

    def __init__(
        self, backbone: nn.Module, dist_net: nn.Module, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dist_net = dist_net
        self.to(device)

    def forward(self, obs: ArrayLike) -> NormalWrapper:
        """(B, S) -> distribution over actions (B, A)."""
        return self.dist_net(self.backbone(as_input(obs, self)))


class Actor(nn.Module):
    """Deterministic actor: max_action * tanh of a linear layer.

    Args:
        backbone: features of the observation; has `output_dim`.
        action_dim: A.
        max_action: half-width of the action box.
        device: where the parameters live.
    """

    def __init__(
        self,
        backbone: nn.Module,
        action_dim: int,
        max_action: float | torch.Tensor = 1.0,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Linear(_output_dim(backbone), action_dim)
        self._max = max_action
        self.to(device)

    def forward(self, obs: ArrayLike) -> torch.Tensor:
        """(B, S) -> (B, A)."""
        return self._max * torch.tanh(self.last(self.backbone(as_input(obs, self))))


class Critic(nn.Module):
    """Value of a state, or of a state and an action.

    Args:
        backbone: features of the input; has `output_dim`.
        device: where the parameters live.
    """

    def __init__(self, backbone: nn.Module, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Linear(_output_dim(backbone), 1)
        self.to(device)

    def forward(self, obs: ArrayLike, actions: ArrayLike | None = None) -> torch.Tensor:
        """(B, S)[, (B, A)] -> (B, 1)."""
        inputs = as_input(obs, self)
        if actions is not None:
            inputs = torch.cat([inputs, as_input(actions, self).flatten(1)], dim=1)
        return self.last(self.backbone(inputs))


class EnsembleCritic(nn.Module):
    """N critics evaluated as batched products.

    Args:
        obs_dim: S.
        action_dim: A.
        hidden_dims: widths of the hidden layers.
        activation: module class after each hidden layer.
        num_ensemble: N.
        device: where the parameters live.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        activation: type[nn.Module] = nn.ReLU,
        num_ensemble: int = 10,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        widths = [obs_dim + action_dim, *hidden_dims]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [EnsembleLinear(fan_in, fan_out, num_ensemble), make_activation(activation)]
        layers.append(EnsembleLinear(widths[-1], 1, num_ensemble))
        self.model = nn.Sequential(*layers)
        self._num_ensemble = num_ensemble
        self.to(device)

    def forward(self, obs: ArrayLike, actions: ArrayLike | None = None) -> torch.Tensor:
        """(B, S), (B, A) or with a leading N axis -> (N, B, 1)."""
        inputs = as_input(obs, self)
        if actions is not None:
            inputs = torch.cat([inputs, as_input(actions, self)], dim=-1)
        return self.model(inputs)


def _output_dim(backbone: nn.Module) -> int:
    return int(backbone.output_dim)  # type: ignore[arg-type]
