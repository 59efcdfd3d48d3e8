"""Means of metric tensors, accumulated on the device and read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from offlinerlkit_romi.engine.state import Counts


class MetricMeans:
    """Running sums of scalar metric tensors; nothing is copied to the host before `result`.

    The sums stay where they are from the first `add` on, so a captured graph can go on adding.

    Attributes:
        counts: how many values each sum has.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self.counts = Counts()

    @torch.no_grad()
    def add(self, metrics: Mapping[str, torch.Tensor | float]) -> None:
        """Add one update's metrics; keys may differ from call to call."""
        for key, value in metrics.items():
            tensor = torch.as_tensor(value).detach()
            total = self._sums.get(key)
            if total is None:
                self._sums[key] = tensor.clone() if tensor.is_floating_point() else tensor.float()
            elif total.device == tensor.device or tensor.device.type == "cpu":
                total.add_(tensor)
            else:  # what was read from a checkpoint, or added as a plain float
                self._sums[key] = total.to(tensor.device).add_(tensor)
            self.counts[key] += 1

    def result(self) -> dict[str, float]:
        """Means since the last call, read in one transfer; starts afresh."""
        keys = [key for key in self._sums if self.counts[key]]
        if not keys:
            return {}
        sums = [self._sums[key] for key in keys]
        # plain floats were added on the CPU: they join the others, not the others them
        device = next((x.device for x in sums if x.device.type != "cpu"), sums[0].device)
        values = torch.stack([x.to(device, torch.float64) for x in sums]).tolist()
        means = {key: value / self.counts[key] for key, value in zip(keys, values, strict=True)}
        self._zero()
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint within an epoch."""
        sums = {key: total for key, total in self._sums.items() if self.counts[key]}
        return {"sums": sums, "counts": self.counts.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on adding where `state` was taken."""
        self._zero()
        for key, total in state["sums"].items():
            if key in self._sums:
                self._sums[key].copy_(total)
            else:
                self._sums[key] = total.clone()
        self.counts.load_state_dict(state["counts"])

    def _zero(self) -> None:
        for total in self._sums.values():
            total.zero_()
        self.counts.clear()
