"""What policies ask of a dynamics model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

TerminalFn = Callable[[Any, Any, Any], Any]


class BaseDynamics:
    """A model, its optimiser and its save and load.

    Args:
        model: predicts transitions.
        optim: trains the model.
    """

    def __init__(self, model: nn.Module, optim: torch.optim.Optimizer) -> None:
        self.model = model
        self.optim = optim

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One model step: next observations, rewards, terminals, information."""
        raise NotImplementedError

    def save(self, save_path: str) -> None:
        """Write the model into a folder."""
        raise NotImplementedError

    def load(self, load_path: str) -> None:
        """Read the model from a folder."""
        raise NotImplementedError
