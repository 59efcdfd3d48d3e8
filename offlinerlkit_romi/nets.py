"""Building blocks: multilayer perceptron, batched linear layer, variational auto-encoder.

Parameter names are OfflineRL-Kit's, so that its checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class Dropout(nn.Dropout):
    """Dropout whose draws can belong to a named generator.

    Attributes:
        generator: source of the draws, on the input's device; none means torch's global one.
    """

    generator: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero a share `p` of the entries and scale the others by 1 / (1 - p), in training only."""
        if self.generator is None or not self.training or self.p == 0:
            return super().forward(x)
        draw = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=self.generator)
        return x * (draw >= self.p) / (1 - self.p)


def own_dropout(module: nn.Module, generator: torch.Generator | None) -> None:
    """Make every `Dropout` of the module draw from this generator."""
    for part in module.modules():
        if isinstance(part, Dropout):
            part.generator = generator


class MLP(nn.Module):
    """Linear layers with an activation after each, and a bare one at the end for `output_dim`.

    Args:
        input_dim: width of the input.
        hidden_dims: widths of the hidden layers.
        output_dim: width of the final linear layer; without it the last hidden layer is the output.
        activation: module class put after each hidden layer.
        dropout_rate: dropout after each activation.

    Attributes:
        input_dim: width of what `forward` takes.
        output_dim: width of what `forward` returns.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        output_dim: int | None = None,
        activation: type[nn.Module] = nn.ReLU,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden_dims]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), make_activation(activation)]
            if dropout_rate is not None:
                layers.append(Dropout(dropout_rate))
        if output_dim is not None:
            layers.append(nn.Linear(widths[-1], output_dim))
        self.input_dim = input_dim
        self.output_dim = widths[-1] if output_dim is None else output_dim
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        return self.model(x)


def make_activation(activation: type[nn.Module]) -> nn.Module:
    """An activation after a linear layer; ReLU overwrites that layer's output, which none reads."""
    return nn.ReLU(inplace=True) if activation is nn.ReLU else activation()


class EnsembleLinear(nn.Module):
    """E linear layers evaluated as one batched product.

    Args:
        input_dim: width of the input.
        output_dim: width of the output.
        num_ensemble: E.
        weight_decay: factor of this layer's L2 term, see `get_decay_loss`.

    The `saved_*` buffers keep the best weights of a fit, member by member.
    """

    saved_weight: torch.Tensor
    saved_bias: torch.Tensor

    def __init__(
        self, input_dim: int, output_dim: int, num_ensemble: int, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        self.num_ensemble = num_ensemble
        self.weight_decay = weight_decay
        self.weight = nn.Parameter(torch.empty(num_ensemble, input_dim, output_dim))
        self.bias = nn.Parameter(torch.zeros(num_ensemble, 1, output_dim))
        nn.init.trunc_normal_(self.weight, std=1 / (2 * input_dim**0.5))
        self.register_buffer("saved_weight", self.weight.detach().clone())
        self.register_buffer("saved_bias", self.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in), shared by all members, or (E, B, in) -> (E, B, out)."""
        if x.dim() == 2:
            x = x.expand(self.num_ensemble, *x.shape)
        return torch.baddbmm(self.bias, x, self.weight)

    def forward_members(self, x: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """(M, B, in) through the M members named by `members` (M,) -> (M, B, out)."""
        # not by indexing, whose backward pass adds row by row
        bias, weight = (p.index_select(0, members) for p in (self.bias, self.weight))
        return torch.baddbmm(bias, x, weight)

    def update_save(self, indexes: Sequence[int] | torch.Tensor) -> None:
        """Remember the present weights of these members (indices or a boolean mask (E,))."""
        keep = self._mask(indexes)
        with torch.no_grad():
            self.saved_weight.copy_(torch.where(keep, self.weight, self.saved_weight))
            self.saved_bias.copy_(torch.where(keep, self.bias, self.saved_bias))

    def load_save(self) -> None:
        """Put the remembered weights back."""
        with torch.no_grad():
            self.weight.copy_(self.saved_weight)
            self.bias.copy_(self.saved_bias)

    def get_decay_loss(self) -> torch.Tensor:
        """weight_decay * 0.5 * sum of squared weights, over all members; biases are free."""
        return self.weight_decay * half_squares(self.weight)

    def _mask(self, indexes: Sequence[int] | torch.Tensor) -> torch.Tensor:
        chosen = torch.as_tensor(indexes, device=self.weight.device)
        if chosen.dtype != torch.bool:
            mask = torch.zeros(self.num_ensemble, dtype=torch.bool, device=chosen.device)
            mask[chosen.long()] = True
            chosen = mask
        return chosen.view(-1, 1, 1)


class _HalfSquares(torch.autograd.Function):
    """One pass over the tensor each way, where autograd's way through a square takes six."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1)
        return 0.5 * torch.dot(flat, flat)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad * x


def half_squares(x: torch.Tensor) -> torch.Tensor:
    """0.5 * sum of squares of all entries, a scalar; its gradient is `x` itself."""
    half: torch.Tensor = _HalfSquares.apply(x)
    return half


class VAE(nn.Module):
    """Conditional variational auto-encoder of actions given observations.

    Args:
        input_dim: S.
        output_dim: A.
        hidden_dim: width of both hidden layers of encoder and decoder.
        latent_dim: width of the code.
        max_action: actions lie in [-max_action, max_action].
        device: where the parameters live.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int,
        latent_dim: int,
        max_action: float | torch.Tensor,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.e1 = nn.Linear(input_dim + output_dim, hidden_dim)
        self.e2 = nn.Linear(hidden_dim, hidden_dim)
        self.mean = nn.Linear(hidden_dim, latent_dim)
        self.log_std = nn.Linear(hidden_dim, latent_dim)
        self.d1 = nn.Linear(input_dim + latent_dim, hidden_dim)
        self.d2 = nn.Linear(hidden_dim, hidden_dim)
        self.d3 = nn.Linear(hidden_dim, output_dim)
        self.max_action = max_action
        self.latent_dim = latent_dim
        self.to(device)

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, S), (B, A) -> reconstruction (B, A), code mean (B, Z), code std (B, Z)."""
        hidden = torch.relu(self.e1(torch.cat([obs, action], -1)))
        hidden = torch.relu(self.e2(hidden))
        mean = self.mean(hidden)
        std = self.log_std(hidden).clamp(-4, 15).exp()
        noise = torch.randn_like(std) if noise is None else noise
        return self.decode(obs, mean + std * noise), mean, std

    def decode(self, obs: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S), (B, Z) -> (B, A); without a code one is drawn, clamped to [-0.5, 0.5]."""
        if z is None:
            z = torch.randn(*obs.shape[:-1], self.latent_dim, device=obs.device).clamp(-0.5, 0.5)
        hidden = torch.relu(self.d1(torch.cat([obs, z], -1)))
        hidden = torch.relu(self.d2(hidden))
        return self.max_action * torch.tanh(self.d3(hidden))
