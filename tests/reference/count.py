"""Count-MORL's codes, counts and penalty in python, one row and one member at a time."""

import math
import statistics
from collections import Counter

import torch
from torch import nn

PRIMES = (999931, 999953, 999959, 999961, 999979, 999983)


def swish(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-x))


def linear(layer: nn.Module, member: int, x: torch.Tensor) -> torch.Tensor:
    return x @ layer.weight[member] + layer.bias[member, 0]


def features(model: nn.Module, member: int, inputs: torch.Tensor) -> torch.Tensor:
    """Output of the second hidden layer for scaled (s, a), (S+A,) -> (F,)."""
    for layer in list(model.backbones)[:2]:
        inputs = swish(linear(layer, member, inputs))
    return inputs.detach()


def logits(coder: nn.Module, member: int, hidden: torch.Tensor) -> torch.Tensor:
    for layer in list(coder.encoder)[:-1]:
        hidden = swish(linear(layer, member, hidden))
    return linear(coder.encoder[-1], member, hidden)


def reconstruction(coder: nn.Module, member: int, hidden: torch.Tensor) -> torch.Tensor:
    hidden = 1 / (1 + torch.exp(-logits(coder, member, hidden)))
    for layer in list(coder.decoder)[:-1]:
        hidden = swish(linear(layer, member, hidden))
    output = linear(coder.decoder[-1], member, hidden)
    return swish(output) if coder.decoder_out == "swish" else output


def coder_loss(
    model: nn.Module, coder: nn.Module, inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Inputs and targets (E, B, S+A); the decay is half the sum of squares, layer by layer."""
    members, rows, width = targets.shape
    total = torch.zeros((), dtype=torch.float64)
    for e in range(members):
        for i in range(rows):
            output = reconstruction(coder, e, features(model, e, inputs[e, i]))
            total = total + ((output - targets[e, i]) ** 2).sum() / (rows * width)
    for layer in [*coder.encoder, *coder.decoder]:
        total = total + layer.weight_decay * 0.5 * (layer.weight**2).sum()
    return total


def code(model: nn.Module, coder: nn.Module, member: int, inputs: torch.Tensor) -> tuple[int, ...]:
    """The bits of one scaled (s, a): the sigmoid rounded."""
    soft = torch.sigmoid(logits(coder, member, features(model, member, inputs)))
    return tuple(int(x) for x in soft.round())


def pseudo_count(counts: list[int], mode: str, coef: float) -> float:
    mean, spread = statistics.fmean(counts), statistics.pstdev(counts)
    n = {"AVG": mean, "UC": mean + coef * spread, "LC": mean - coef * spread}[mode]
    return max(n, 1.0)


def penalty(counts: list[int], mode: str, coef: float) -> float:
    return 1 / math.sqrt(pseudo_count(counts, mode, coef))


class Sketch:
    """The released code's count-min sketch: six tables, the least bucket counts."""

    def __init__(self) -> None:
        self.tables: list[Counter[int]] = [Counter() for _ in PRIMES]

    def add(self, key: int) -> None:
        for table, prime in zip(self.tables, PRIMES, strict=True):
            table[key % prime] += 1

    def count(self, key: int) -> int:
        least = min(t[key % p] for t, p in zip(self.tables, PRIMES, strict=True))
        return max(least, 1)
