"""The run's curve: a row per epoch, written once its scores are there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from offlinerlkit_romi.policy_trainer.ledger import Ledger, Row
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.policy_trainer.scoring import Evaluation, Scores
from offlinerlkit_romi.policy_trainer.timing import EVALUATION, EVALUATION_WORKER, PhaseTimer
from offlinerlkit_romi.utils.logger import Logger


class Curve:
    """Rows in their order, and the scores in them.

    Args:
        logger: Takes the rows.
        timer: Counts the time that training waits for scores.
        step_per_epoch: Updates per epoch.
        excluded: Names of handlers that rows are kept out of.

    Attributes:
        history: (policy steps, scores) of every evaluation whose outcome is there.
        progress: Told of every row; None for nobody.
    """

    def __init__(
        self, logger: Logger, timer: PhaseTimer, step_per_epoch: int, excluded: Sequence[str]
    ) -> None:
        self._logger, self._timer = logger, timer
        self._step_per_epoch, self._excluded = step_per_epoch, excluded
        self.history: list[tuple[int, Scores]] = []
        self.progress: Progress | None = None
        self._ledger = Ledger(self._write)

    def add(self, row: Row) -> None:
        """Take an epoch's row."""
        self._ledger.add(row)

    def land(self) -> None:
        """Write the rows whose scores have come."""
        self._ledger.land()

    def drain(self) -> None:
        """Wait for all scores, outside the time of any phase."""
        self._ledger.drain()

    def await_evaluations(self, at_most: int, meanwhile: Callable[[], None]) -> None:
        """Wait until at most so many are under way; `meanwhile` may raise to leave."""
        with self._timer.phase(EVALUATION, units=0):
            self._ledger.drain(at_most, meanwhile)

    def last_10_mean(self) -> float:
        """Mean score of the last ten evaluations, NaN without any."""
        last = deque((scores.mean for _, scores in self.history), maxlen=10)
        return sum(last) / len(last) if last else math.nan

    def state(self) -> dict[str, Any]:
        """All scores so far, and what is still to be scored."""
        history = [(step, *astuple(scores)) for step, scores in self.history]
        return {"history": history, "waiting": self._ledger.state()}

    def load_state(
        self,
        state: Mapping[str, Any],
        again: Callable[[Mapping[str, Any]], Evaluation | None],
    ) -> None:
        """Go on where `state` was taken; `again` repeats an evaluation."""
        self.history = [(int(step), Scores(*scores)) for step, *scores in state["history"]]
        self._ledger.load_state(state.get("waiting", []), again)

    def _write(self, row: Row) -> None:
        """Write an epoch's row, with the scores it waited for."""
        steps, values = row.epoch * self._step_per_epoch, dict(row.values)
        if row.evaluation is not None:
            with self._timer.phase(EVALUATION, units=0):
                scores, seconds = row.evaluation.outcome()
            self.history.append((steps, scores))
            values |= scores.as_metrics()
            if seconds is not None:
                self._timer.record(EVALUATION_WORKER, seconds)
                values[f"time/ms_per_{EVALUATION_WORKER}"] = 1000 * seconds
        for key, value in values.items():
            self._logger.logkv(key, value)
        self._logger.set_timestep(steps)
        self._logger.dumpkvs(exclude=self._excluded)
        if self.progress is not None:
            self.progress.end_epoch(row.epoch, values)
