"""The run's curve: a row per epoch, written once its scores and the rows before it are there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from offlinerlkit_romi.policy_trainer.callbacks import Callbacks
from offlinerlkit_romi.policy_trainer.evaluation import Evaluation, Scores
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.policy_trainer.timing import EVALUATION, EVALUATION_WORKER, PhaseTimer
from offlinerlkit_romi.utils.logger import Logger

WAIT_SECONDS = 0.2  # between two looks at whether somebody wants to stop


@dataclass(frozen=True)
class Row:
    """An epoch's row before its scores are known.

    Attributes:
        epoch: Counted from 1.
        values: Metrics and times.
        evaluation: The scores, or where they will come from; None for an epoch without.
    """

    epoch: int
    values: dict[str, float]
    evaluation: Scores | Evaluation | None

    @property
    def pending(self) -> Evaluation | None:
        """What it waits for, if it does."""
        return None if isinstance(self.evaluation, Scores) else self.evaluation

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it can be written, after waiting for at most `seconds`."""
        return self.pending is None or self.pending.ready(seconds)


class Curve:
    """Rows that wait until they can be written; none is lost, repeated or out of order.

    Args:
        logger: Takes the rows.
        timer: Counts the time that training waits for scores.
        step_per_epoch: Updates per epoch.
        excluded: Names of handlers that rows are kept out of.
        callbacks: Hear of every row.

    Attributes:
        history: (policy steps, scores) of every evaluation whose outcome is there.
        progress: Told of every row; None for nobody.
    """

    def __init__(
        self,
        logger: Logger,
        timer: PhaseTimer,
        step_per_epoch: int,
        excluded: Sequence[str],
        callbacks: Callbacks,
    ) -> None:
        self._logger, self._timer = logger, timer
        self._step_per_epoch, self._excluded = step_per_epoch, excluded
        self._callbacks = callbacks
        self._waiting: deque[Row] = deque()
        self.history: list[tuple[int, Scores]] = []
        self.progress: Progress | None = None

    def add(self, row: Row) -> None:
        """Take an epoch's row, and write what can be written."""
        self._waiting.append(row)
        self.land()

    def land(self) -> None:
        """Write the rows whose scores have come."""
        while self._waiting and self._waiting[0].ready():
            self._write(self._waiting.popleft())

    def drain(self, at_most: int = 0, meanwhile: Callable[[], None] | None = None) -> None:
        """Wait until at most so many evaluations are under way; `meanwhile` may raise to leave."""
        self.land()
        while sum(row.pending is not None for row in self._waiting) > at_most:
            if meanwhile is not None:
                meanwhile()
            self._waiting[0].ready(WAIT_SECONDS)
            self.land()

    def await_evaluations(self, at_most: int, meanwhile: Callable[[], None]) -> None:
        """`drain`, its time counted as an evaluation's."""
        with self._timer.phase(EVALUATION, units=0):
            self.drain(at_most, meanwhile)

    def last_10_mean(self) -> float:
        """Mean score of the last ten evaluations, NaN without any."""
        last = [scores.mean for _, scores in self.history[-10:]]
        return sum(last) / len(last) if last else math.nan

    def state(self) -> dict[str, Any]:
        """All scores so far, and the rows that wait, with what their evaluations need."""
        waiting = [
            {
                "epoch": row.epoch,
                "values": dict(row.values),
                "evaluation": None if row.pending is None else row.pending.state(),
            }
            for row in self._waiting
        ]
        history = [(step, *astuple(scores)) for step, scores in self.history]
        return {"history": history, "waiting": waiting}

    def load_state(
        self,
        state: Mapping[str, Any],
        again: Callable[[Mapping[str, Any]], Evaluation | None],
    ) -> None:
        """Go on where `state` was taken; `again` repeats an evaluation."""
        self.history = [(int(step), Scores(*scores)) for step, *scores in state["history"]]
        self._waiting = deque(
            Row(
                int(row["epoch"]),
                dict(row["values"]),
                None if row["evaluation"] is None else again(row["evaluation"]),
            )
            for row in state.get("waiting", [])
        )

    def _write(self, row: Row) -> None:
        """Write an epoch's row, with the scores it waited for."""
        steps, values = row.epoch * self._step_per_epoch, dict(row.values)
        scores: Scores | None = None
        if row.evaluation is not None:
            scores, metrics = self._scored(steps, row.evaluation)
            values |= metrics
        for key, value in values.items():
            self._logger.logkv(key, value)
        self._logger.set_timestep(steps)
        self._logger.dumpkvs(exclude=self._excluded)
        if self.progress is not None:
            self.progress.end_epoch(row.epoch, values)
        self._callbacks.wrote(row.epoch, values, scores)

    def _scored(
        self, steps: int, evaluation: Scores | Evaluation
    ) -> tuple[Scores, dict[str, float]]:
        """An evaluation's outcome, and its part of a row."""
        seconds: float | None = None
        if isinstance(evaluation, Scores):
            scores = evaluation
        else:
            with self._timer.phase(EVALUATION, units=0):
                scores, seconds = evaluation.outcome()
        self.history.append((steps, scores))
        if seconds is None:
            return scores, scores.as_metrics()
        self._timer.record(EVALUATION_WORKER, seconds)
        spent = {f"time/ms_per_{EVALUATION_WORKER}": 1000 * seconds}
        return scores, scores.as_metrics() | spent
