"""Means of metric tensors, accumulated on the device and read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class MetricMeans:
    """Running sums of scalar metric tensors; nothing is copied to the host before `result`."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, torch.Tensor | float]) -> None:
        """Add one update's metrics; keys may differ from call to call."""
        for key, value in metrics.items():
            tensor = torch.as_tensor(value).detach()
            if key in self._sums:
                self._sums[key] = self._sums[key] + tensor
            else:
                self._sums[key] = tensor.clone()
            self._counts[key] = self._counts.get(key, 0) + 1

    def result(self) -> dict[str, float]:
        """Means since the last call, read in one transfer; starts afresh."""
        if not self._sums:
            return {}
        keys, sums = list(self._sums), list(self._sums.values())
        # plain floats were added on the CPU: they join the others, not the others them
        device = next((x.device for x in sums if x.device.type != "cpu"), sums[0].device)
        values = torch.stack([x.to(device, torch.float64) for x in sums]).tolist()
        means = {key: value / self._counts[key] for key, value in zip(keys, values, strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint within an epoch."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on adding where `state` was taken."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
