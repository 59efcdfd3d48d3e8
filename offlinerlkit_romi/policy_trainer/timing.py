"""Where the seconds go, phase by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

POLICY_STEP = "policy_step"
MODEL_UPDATE = "model_update"
ROLLOUT = "rollout"
EVALUATION = "evaluation"  # the time training waits for it
EVALUATION_WORKER = "evaluation_worker"


class PhaseTimer:
    """Seconds per named phase; time spent in an inner phase is not the outer one's.

    On CUDA a phase starts and ends with a synchronisation, so phases should be long: a thousand
    policy steps, not one.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._cuda = torch.device(device) if torch.device(device).type == "cuda" else None
        self._totals: dict[str, tuple[float, int]] = {}
        self._lap: dict[str, tuple[float, int]] = {}
        self._inner = 0.0

    @contextmanager
    def phase(self, name: str, units: int = 1) -> Iterator[None]:
        """Count the time inside, as `units` pieces of work, towards `name`."""
        outer, self._inner = self._inner, 0.0
        start = self._now()
        try:
            yield
        finally:
            elapsed = self._now() - start
            for book in (self._totals, self._lap):
                seconds, count = book.get(name, (0.0, 0))
                book[name] = (seconds + elapsed - self._inner, count + units)
            self._inner = outer + elapsed

    def count(self, name: str, units: int) -> None:
        """Count pieces of work towards a phase whose number is known only afterwards."""
        for book in (self._totals, self._lap):
            seconds, count = book.get(name, (0.0, 0))
            book[name] = (seconds, count + units)

    def record(self, name: str, seconds: float) -> None:
        """Count one piece of work that was timed elsewhere towards the totals."""
        before, count = self._totals.get(name, (0.0, 0))
        self._totals[name] = (before + seconds, count + 1)

    def state_dict(self) -> dict[str, Any]:
        """Seconds and units so far, for a checkpoint."""
        return {"totals": dict(self._totals), "lap": dict(self._lap)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting where `state` was taken."""
        self._totals, self._lap = dict(state["totals"]), dict(state["lap"])

    def lap(self) -> dict[str, float]:
        """Milliseconds per unit of each phase since the last call."""
        lap, self._lap = _milliseconds(self._lap), {}
        return lap

    def totals(self) -> dict[str, float]:
        """Milliseconds per unit of each phase since the start."""
        return _milliseconds(self._totals)

    def counts(self) -> dict[str, int]:
        """Units of each phase since the start."""
        return {name: count for name, (_, count) in self._totals.items()}

    def _now(self) -> float:
        if self._cuda is not None:
            # not the device: other streams may be other seeds'
            torch.cuda.current_stream(self._cuda).synchronize()
        return time.perf_counter()


def _milliseconds(book: dict[str, tuple[float, int]]) -> dict[str, float]:
    return {name: 1000 * seconds / count for name, (seconds, count) in book.items() if count}
