"""Fitted-Q evaluation row by row: lists, loops, and one linear system per regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Row = tuple[np.ndarray, float, np.ndarray, bool]  # (s, a), r, (s', a'), whether it ends


def wave(x: np.ndarray, directions: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Random features of one row."""
    return np.array([math.cos(sum(x * w) + b) for w, b in zip(directions.T, phases, strict=True)])


def evaluate(
    rows: Sequence[Row],
    starts: Sequence[np.ndarray],
    directions: np.ndarray,
    phases: np.ndarray,
    gamma: float,
    penalties: Sequence[float],
    bounds: tuple[float, float],
) -> list[float]:
    """Values at the starts after one regression per penalty (per row), features of mean 0."""
    pairs = np.array([row[0] for row in rows])
    centre, spread = pairs.mean(0), pairs.std(0)

    def features(x: np.ndarray) -> np.ndarray:
        return wave((x - centre) / spread, directions, phases)

    middle = np.mean([features(row[0]) for row in rows], axis=0)
    design = np.array([features(row[0]) - middle for row in rows])
    rewards = [row[1] for row in rows]
    share = 1 - np.mean([row[3] for row in rows])
    mean, weights = float(np.mean(rewards)) / (1 - gamma * share), np.zeros(len(middle))
    for penalty in penalties:
        aims = []
        for _, reward, following, ends in rows:
            value = mean + float(weights @ (features(following) - middle))
            aims.append(reward + (0 if ends else gamma * min(max(value, bounds[0]), bounds[1])))
        mean = float(np.mean(aims))
        system = design.T @ design + penalty * len(rows) * np.eye(len(middle))
        weights = np.linalg.solve(system, design.T @ (np.array(aims) - mean))
    values = [mean + float(weights @ (features(start) - middle)) for start in starts]
    return [min(max(value, bounds[0]), bounds[1]) for value in values]
