"""What every policy offers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.engine import normal
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules.common import ArrayLike
from offlinerlkit_romi.utils.scaler import StandardScaler

Batch = Mapping[str, torch.Tensor]
Metrics = dict[str, torch.Tensor]
Compat = Literal["paper", "kit"]


class Ours(TypedDict, total=False):
    """What every policy takes beyond the kit's arguments, by keyword.

    Attributes:
        generator: source of actions' and the update's noise, on the policy's device; none means
            torch's global one.
        compat: `paper`, as published with mistakes mended, or `kit`, OfflineRL-Kit's arithmetic,
            quirks included; where the two differ an algorithm says how.
    """

    generator: torch.Generator | None
    compat: Compat


class BasePolicy(nn.Module):
    """A policy and its update.

    Takes what `Ours` lists. A policy implements `update`, which changes state in place and returns
    detached scalar tensors without a host sync (`learn` is the kit's name for it with floats), and
    `choose_action`, which `select_action` asks.

    Attributes:
        actor: observation -> action or distribution.
        acts_with: Children whose weights `select_action` reads.
        scaler: standardises what `select_action` is given; training sees standardised observations
            already. None where they are used raw.

    Raises:
        ValueError: unknown `compat`.
    """

    actor: nn.Module
    acts_with: tuple[str, ...] = ("actor",)
    scaler: StandardScaler | None = None

    def __init__(self, generator: torch.Generator | None = None, compat: Compat = "paper") -> None:
        super().__init__()
        check_choice("compat", compat, ("paper", "kit"))
        self.generator = generator
        self._like_kit = compat == "kit"

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
            return self.select_action(rows[None], deterministic)[0]
        rows = rows if self.scaler is None else self.scaler.transform(rows)
        return self.choose_action(rows, deterministic).cpu().numpy()

    def choose_action(self, obs: ArrayLike, deterministic: bool = False) -> torch.Tensor:
        """Observations as the actor takes them, (n, S) -> (n, A) on the policy's device."""
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
        return {} if self.generator is None else {"generator": self.generator}

    def _parts(self, *names: str) -> dict[str, Any]:
        """These attributes by name, for `training_state`."""
        return {name: getattr(self, name) for name in names}

    @property
    def tensor_device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of the shape of `like` from the policy's generator."""
        return normal(like.shape, like, self.generator)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a choice that is none.

    Raises:
        ValueError: `value` is not among the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}: {value!r}")
