"""ROMI's weighting network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from offlinerlkit_romi.nets import MLP


class WeightingNet(nn.Module):
    """Weight of a transition in the model's likelihood, between two bounds.

    w = a + (b - a) / 2 * (tanh(net(x)) + 1), x = (s, a, s') or (s, a) (ROMI paper Eq. 32).

    Args:
        obs_dim: S.
        action_dim: A.
        hidden_dims: widths of the hidden layers; the paper's text says two of 256, its Table 3
            three.
        weight_range: [a, b]; the paper's is [0.5, 2].
        weight_input: `sas` as in the paper's text, `sa` as in the published runs.
        device: where the parameters live.

    Raises:
        ValueError: unknown `weight_input`, or a range that is empty or not positive.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int] = (256, 256),
        weight_range: Sequence[float] = (0.5, 2.0),
        weight_input: str = "sas",
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if weight_input not in ("sas", "sa"):
            raise ValueError(f"weight_input is 'sas' or 'sa', not {weight_input!r}")
        self.low, self.high = float(weight_range[0]), float(weight_range[1])
        if not 0 < self.low < self.high:
            raise ValueError(f"weight_range needs 0 < a < b, not {tuple(weight_range)}")
        self.weight_input = weight_input
        input_dim = obs_dim + action_dim + (obs_dim if weight_input == "sas" else 0)
        self.net = MLP(input_dim, hidden_dims, 1)
        self.to(device)

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor
    ) -> torch.Tensor:
        """(B, S), (B, A), (B, S) -> weights (B, 1) in [a, b]."""
        parts = [obs, action, next_obs] if self.weight_input == "sas" else [obs, action]
        squashed = torch.tanh(self.net(torch.cat(parts, dim=-1)))
        return self.low + 0.5 * (self.high - self.low) * (squashed + 1)
