"""The Gaussian ensemble restated in float64, one member and one row at a time."""

import math

import numpy as np
import torch
from torch import nn


def softplus(x: torch.Tensor) -> torch.Tensor:
    """log(1 + e^x), written so that e never overflows."""
    return torch.log1p(torch.exp(-x.abs())) + torch.where(x > 0, x, torch.zeros_like(x))


def soft_clamp(x: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    below_upper = upper - softplus(upper - x)
    return lower + softplus(below_upper - lower)


def member_forward(
    model: nn.Module, member: int, inputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled (s, a) (S+A,) -> mean, log-variance of [delta obs, reward], both (D,)."""
    hidden = inputs
    for layer in model.backbones:
        linear = hidden @ layer.weight[member] + layer.bias[member, 0]
        hidden = linear * torch.sigmoid(linear)
    out = hidden @ model.output_layer.weight[member] + model.output_layer.bias[member, 0]
    half = len(out) // 2
    return out[:half], soft_clamp(out[half:], model.min_logvar, model.max_logvar)


def scaled(dynamics, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """(S,), (A,) -> (S+A,)."""
    values = torch.cat([obs, action])
    mu = torch.as_tensor(np.ravel(dynamics.scaler.mu), dtype=values.dtype)
    std = torch.as_tensor(np.ravel(dynamics.scaler.std), dtype=values.dtype)
    return (values - mu) / std


def regression_target(batch: dict[str, torch.Tensor], row: int) -> torch.Tensor:
    delta = batch["next_observations"][row] - batch["observations"][row]
    return torch.cat([delta, batch["rewards"][row]])


def row_nll(model: nn.Module, member: int, inputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mean, logvar = member_forward(model, member, inputs)
    total = torch.zeros((), dtype=y.dtype)
    for d in range(len(y)):
        total = total + (mean[d] - y[d]) ** 2 / torch.exp(logvar[d]) + logvar[d]
    return total / len(y)


def reward_loss(dynamics, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the reward adds to the unweighted likelihood loss: its 1/D of every row's nll."""
    total = torch.zeros((), dtype=torch.float64)
    for i, reward in enumerate(batch["rewards"][:, 0]):
        inputs = scaled(dynamics, batch["observations"][i], batch["actions"][i])
        for member in range(dynamics.model.num_ensemble):
            mean, logvar = member_forward(dynamics.model, member, inputs)
            nll = (mean[-1] - reward) ** 2 / torch.exp(logvar[-1]) + logvar[-1]
            total = total + nll / len(mean)
    return total / len(batch["rewards"])


def regulariser(model: nn.Module, coefficient: float) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for layer in [*model.backbones, model.output_layer]:
        total = total + 0.5 * layer.weight_decay * (layer.weight**2).sum()
    for d in range(len(model.max_logvar)):
        total = total + coefficient * (model.max_logvar[d] - model.min_logvar[d])
    return total


def weighted_loss(
    dynamics, batch: dict[str, torch.Tensor], weights: list[float], coefficient: float | None
) -> torch.Tensor:
    """mean_i w_i nll_i (summed over members) plus the regulariser; w = 1: the supervised loss."""
    total = torch.zeros((), dtype=torch.float64)
    for i, weight in enumerate(weights):
        inputs = scaled(dynamics, batch["observations"][i], batch["actions"][i])
        y = regression_target(batch, i)
        for member in range(dynamics.model.num_ensemble):
            total = total + weight * row_nll(dynamics.model, member, inputs, y)
    total = total / len(weights)
    return total if coefficient is None else total + regulariser(dynamics.model, coefficient)


def gaussian_log_density(mean: torch.Tensor, logvar: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for d in range(len(x)):
        quadratic = (x[d] - mean[d]) ** 2 / torch.exp(logvar[d])
        total = total - 0.5 * (quadratic + logvar[d] + math.log(2 * math.pi))
    return total


def mixture_log_density(log_densities: list[torch.Tensor]) -> torch.Tensor:
    """Log of the mean density, with the largest factored out."""
    largest = max(log_densities, key=torch.Tensor.item)
    total = torch.zeros((), dtype=torch.float64)
    for log_density in log_densities:
        total = total + torch.exp(log_density - largest)
    return largest + torch.log(total / len(log_densities))


def penalty(mode: str, means: np.ndarray, logvars: np.ndarray) -> np.ndarray:
    """MOPO's three penalties over all members, (E, n, D) numpy -> (n,)."""
    members, n, _ = means.shape
    result = np.zeros(n)
    for i in range(n):
        if mode == "aleatoric":
            stds = np.sqrt(np.exp(logvars[:, i]))
            result[i] = max(np.sqrt((stds[e] ** 2).sum()) for e in range(members))
            continue
        obs_means = means[:, i, :-1]
        centre = obs_means.mean(0)
        gaps = [np.sqrt(((obs_means[e] - centre) ** 2).sum()) for e in range(members)]
        if mode == "pairwise-diff":
            result[i] = max(gaps)
        else:
            variances = sum((obs_means[e] - centre) ** 2 for e in range(members)) / members
            result[i] = np.sqrt(variances.mean())
    return result
