"""EDAC restated in float64, member by member and row by row (An et al., arXiv 2110.01548)."""

import torch
from torch import nn

from tests.reference.sac import squashed_sample

Batch = dict[str, torch.Tensor]


def member_q(
    critics: nn.Module, member: int, obs: torch.Tensor, action: torch.Tensor
) -> torch.Tensor:
    """One member's value by plain products, (S,), (A,) -> ()."""
    x = torch.cat([obs, action])
    layers = [layer for layer in critics.model if hasattr(layer, "weight")]
    for depth, layer in enumerate(layers):
        x = x @ layer.weight[member] + layer.bias[member, 0]
        x = torch.relu(x) if depth < len(layers) - 1 else x
    return x[0]


def members(critics: nn.Module, obs: torch.Tensor, action: torch.Tensor) -> list[torch.Tensor]:
    return [member_q(critics, n, obs, action) for n in range(critics._num_ensemble)]


def actor_loss(
    actor: nn.Module, critics: nn.Module, obs: torch.Tensor, noise: torch.Tensor, alpha: float
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, z in zip(obs, noise, strict=True):
        action, log_prob = squashed_sample(actor, row, z)
        total = total + alpha * log_prob - min(members(critics, row, action))
    return total / len(obs)


def targets(
    actor: nn.Module, slow: nn.Module, batch: Batch, noise: torch.Tensor, alpha: float, gamma: float
) -> list[float]:
    """One y per row; noise (B, A), or (R, B, A) for the largest of R values per member."""
    result = []
    for i, next_obs in enumerate(batch["next_observations"]):
        draws = noise[i : i + 1] if noise.dim() == 2 else noise[:, i]
        sampled = [squashed_sample(actor, next_obs, z) for z in draws]
        values = [members(slow, next_obs, action) for action, _ in sampled]
        best = [max(draw[n] for draw in values) for n in range(slow._num_ensemble)]
        value = min(best) - (alpha * sampled[0][1] if noise.dim() == 2 else 0)
        y = batch["rewards"][i, 0] + gamma * (1 - batch["terminals"][i, 0]) * value
        result.append(y.item())
    return result


def bellman_loss(critics: nn.Module, batch: Batch, ys: list[float]) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, y in enumerate(ys):
        for value in members(critics, batch["observations"][i], batch["actions"][i]):
            total = total + (value - y) ** 2
    return total / len(ys)


def diversity_loss(critics: nn.Module, batch: Batch) -> torch.Tensor:
    """Every ordered pair's cosine, each gradient from a backward pass of its own."""
    count, total = critics._num_ensemble, torch.zeros((), dtype=torch.float64)
    for obs, data_action in zip(batch["observations"], batch["actions"], strict=True):
        directions = []
        for n in range(count):
            action = data_action.clone().requires_grad_()
            value = member_q(critics, n, obs, action)
            (grad,) = torch.autograd.grad(value, action, create_graph=True)
            # a value that is flat in the action has no direction, and its norm no derivative
            norm = grad.square().sum().sqrt() if grad.any() else 1.0
            directions.append(grad / (norm + 1e-10))
        for n in range(count):
            for m in range(count):
                if n != m:
                    total = total + directions[n] @ directions[m]
    return total / (count - 1) / len(batch["rewards"])
