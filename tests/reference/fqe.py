"""Fitted-Q evaluation in float64, row by row, with Adam and the schedule written out."""

from __future__ import annotations

import math
from typing import Any

import torch

ADAM = (0.9, 0.999, 1e-8)


def q_of(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """ReLU network of one row: weights and biases in turn."""
    for i in range(0, len(weights) - 2, 2):
        x = torch.clamp(weights[i] @ x + weights[i + 1], min=0)
    return (weights[-2] @ x + weights[-1])[0]


def loss_of(
    weights: list[torch.Tensor],
    old: list[torch.Tensor],
    rows: list[Any],
    gamma: float,
    scale: float,
) -> torch.Tensor:
    """Mean squared Bellman error over rows of (obs, action, reward, next_obs, next_action, end)."""
    total = torch.zeros((), dtype=torch.float64)
    for obs, action, reward, next_obs, next_action, terminal in rows:
        aim = reward / scale
        if not terminal:
            aim = aim + gamma * q_of(old, torch.cat([next_obs, next_action])).detach()
        total = total + (q_of(weights, torch.cat([obs, action])) - aim) ** 2
    return total / len(rows)


def evaluate(
    weights: list[torch.Tensor],
    rows: list[Any],
    starts: list[torch.Tensor],
    batches: list[list[int]],
    gamma: float,
    lr: float,
    tau: float,
) -> list[float]:
    """Values at the starts after one step per batch of row numbers."""
    weights = [w.clone().double().requires_grad_() for w in weights]
    old = [w.detach().clone() for w in weights]
    first = [torch.zeros_like(w) for w in old]
    second = [torch.zeros_like(w) for w in old]
    scale = math.sqrt(sum(float(row[2]) ** 2 for row in rows) / len(rows)) / (1 - gamma)
    for step, batch in enumerate(batches):
        loss = loss_of(weights, old, [rows[i] for i in batch], gamma, scale)
        grads = torch.autograd.grad(loss, weights)
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        for i, grad in enumerate(grads):
            first[i] = ADAM[0] * first[i] + (1 - ADAM[0]) * grad
            second[i] = ADAM[1] * second[i] + (1 - ADAM[1]) * grad**2
            mean = first[i] / (1 - ADAM[0] ** (step + 1))
            square = second[i] / (1 - ADAM[1] ** (step + 1))
            weights[i] = (weights[i] - rate * mean / (square.sqrt() + ADAM[2])).detach()
            weights[i].requires_grad_()
            old[i] = (1 - tau) * old[i] + tau * weights[i].detach()
    return [float(q_of(old, start)) * scale for start in starts]
