"""Rows of the curve in their order: each waits for its scores and for the rows before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from offlinerlkit_romi.policy_trainer.scoring import Evaluation

WAIT_SECONDS = 0.2  # between two looks at whether somebody wants to stop


@dataclass(frozen=True)
class Row:
    """An epoch's row before its scores are known.

    Attributes:
        epoch: Counted from 1.
        values: Metrics and times.
        evaluation: Where the scores will come from; None for an epoch without.
    """

    epoch: int
    values: dict[str, float]
    evaluation: Evaluation | None

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it can be written, after waiting for at most `seconds`."""
        return self.evaluation is None or self.evaluation.ready(seconds)


class Ledger:
    """Keeps rows until they can be written; none is lost, repeated or out of order.

    Args:
        write: Takes a row that is ready.
    """

    def __init__(self, write: Callable[[Row], None]) -> None:
        self._write = write
        self._waiting: deque[Row] = deque()

    def add(self, row: Row) -> None:
        """Take a row, and write what can be written."""
        self._waiting.append(row)
        self.land()

    def land(self) -> None:
        """Write the rows that are ready."""
        while self._waiting and self._waiting[0].ready():
            self._write(self._waiting.popleft())

    def drain(self, at_most: int = 0, meanwhile: Callable[[], None] | None = None) -> None:
        """Wait until at most so many evaluations are under way; `meanwhile` may raise to leave."""
        self.land()
        while sum(row.evaluation is not None for row in self._waiting) > at_most:
            if meanwhile is not None:
                meanwhile()
            self._waiting[0].ready(WAIT_SECONDS)
            self.land()

    def state(self) -> list[dict[str, Any]]:
        """The waiting rows, for a checkpoint: what their evaluations need is in it."""
        return [
            {
                "epoch": row.epoch,
                "values": dict(row.values),
                "evaluation": None if row.evaluation is None else row.evaluation.state(),
            }
            for row in self._waiting
        ]

    def load_state(
        self,
        state: list[Mapping[str, Any]],
        again: Callable[[Mapping[str, Any]], Evaluation | None],
    ) -> None:
        """Wait for the rows of `state` instead; `again` repeats an evaluation."""
        self._waiting = deque(
            Row(
                int(row["epoch"]),
                dict(row["values"]),
                None if row["evaluation"] is None else again(row["evaluation"]),
            )
            for row in state
        )
