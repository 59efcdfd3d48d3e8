"""What policies ask of a dynamics model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

TerminalFn = Callable[[Any, Any, Any], Any]
StepResult = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class BaseDynamics:
    """A model, its optimiser and its save and load.

    Args:
        model: predicts transitions.
        optim: trains the model.

    Attributes:
        learns: Whether there is anything to fit, to checkpoint and to look at.
    """

    learns = True

    def __init__(self, model: nn.Module, optim: torch.optim.Optimizer) -> None:
        self.model = model
        self.optim = optim

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One model step: next observations, rewards, terminals, information."""
        raise NotImplementedError

    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> StepResult:
        """`step` on tensors, (n, S), (n, A): (n, S), (n, 1), (n, 1) bool, information."""
        raise NotImplementedError

    def expected_next(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The next observation without noise, (n, S), (n, A) -> (n, S)."""
        raise NotImplementedError

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name; nothing where nothing is learned."""
        return {}

    def fitted(self) -> dict[str, Any]:
        """What a fit changes besides the model and its optimiser, by name, for a checkpoint."""
        return {}

    def save(self, save_path: str) -> None:
        """Write the model into a folder."""
        raise NotImplementedError

    def load(self, load_path: str) -> None:
        """Read the model from a folder."""
        raise NotImplementedError
