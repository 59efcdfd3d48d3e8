"""What is done every so many policy steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Metrics = Mapping[str, torch.Tensor | float]


@dataclass(frozen=True)
class Event:
    """Something done every `every` policy steps; 0 means never.

    Attributes:
        phase: The name its time is counted under.
        every: Policy steps from one call to the next.
        action: Does it and returns metrics.
        before_update: Due at steps 0, n, 2n, ... ahead of the update; otherwise once n, 2n, ...
            updates are done.
        units: Pieces of work per call, for the time per piece.
    """

    phase: str
    every: int
    action: Callable[[], Metrics]
    before_update: bool = False
    units: int = 1

    def due(self, step: int) -> bool:
        """Whether to act around the update number `step`, counted from 0."""
        return self.every > 0 and (step + (not self.before_update)) % self.every == 0
