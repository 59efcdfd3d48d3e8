"""What every policy offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules.common import ArrayLike

Batch = Mapping[str, torch.Tensor]
Metrics = dict[str, torch.Tensor]
# paper: as published, mistakes mended; kit: OfflineRL-Kit's arithmetic, quirks included
Compat = Literal["paper", "kit"]


class BasePolicy(nn.Module):
    """A policy and its update.

    Args:
        generator: source of the update's noise, on the policy's device; none means torch's global
            one.

    A policy implements `update`, which changes state in place and returns detached scalar tensors
    without a host sync (`learn` is the kit's name for it with floats), and `_act`, which
    `select_action` asks.

    Attributes:
        actor: observation -> action or distribution.
        acts_with: Children whose weights `select_action` reads.
    """

    actor: nn.Module
    acts_with: tuple[str, ...] = ("actor",)

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = generator

    def train(self, mode: bool = True) -> BasePolicy:
        """Training mode; slow copies stay in evaluation mode and never drop units."""
        super().train(mode)
        for name, child in self.named_children():
            if name.endswith("_old"):
                child.eval()
        return self

    def update(self, batch: Any) -> Metrics:
        """One gradient update on a batch."""
        raise NotImplementedError

    @property
    def phase(self) -> int:
        """Which of several kinds of update is next, known on the host; most have one kind."""
        return 0

    def learn(self, batch: Any) -> dict[str, float]:
        """`update`, its metrics read as floats (the kit's signature)."""
        return {name: value.item() for name, value in self.update(batch).items()}

    @torch.no_grad()
    def select_action(self, obs: ArrayLike, deterministic: bool = False) -> np.ndarray:
        """Raw observations (n, S) -> (n, A), or one (S,) -> (A,); numpy at the border.

        Raises:
            UserError: the observations are not as wide as the actor's input.
        """
        rows = np.asarray(obs.numpy(force=True) if isinstance(obs, torch.Tensor) else obs)
        self._check_shape(rows.shape)
        if rows.ndim == 1:
            return self._act(rows[None], deterministic)[0]
        return self._act(rows, deterministic)

    def _act(self, obs: np.ndarray, deterministic: bool) -> np.ndarray:
        """(n, S) -> (n, A)."""
        raise NotImplementedError

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        width = getattr(getattr(self.actor, "backbone", None), "input_dim", None)
        if width is None:  # somebody else's backbone need not tell it
            return
        if len(shape) > 2 or shape[-1:] != (width,):
            raise UserError(
                f"select_action got observations of shape {shape}: this policy takes (n, {width}) "
                f"or ({width},)"
            )

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name: modules, optimisers, tensors, generators."""
        raise NotImplementedError

    @property
    def tensor_device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of the shape of `like` from the policy's generator."""
        return torch.randn(
            like.shape, dtype=like.dtype, device=like.device, generator=self.generator
        )


def check_compat(compat: str) -> bool:
    """Whether the kit's arithmetic is asked for.

    Raises:
        ValueError: neither `paper` nor `kit`.
    """
    if compat not in ("paper", "kit"):
        raise ValueError(f"compat is 'paper' or 'kit', not {compat!r}")
    return compat == "kit"
