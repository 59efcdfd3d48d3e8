"""What follows a run as it goes: callbacks, those that are ready, and who speaks to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from offlinerlkit_romi.engine import save_atomically
from offlinerlkit_romi.errors import (
    DivergedError,
    StopTraining,
    TrainingInterrupted,
    UserError,
    reason_of,
)
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS, Scores
from offlinerlkit_romi.system.files import write_json

Metrics = Mapping[str, float]
OnEpoch = Callable[[int, Metrics], object]
Status = Literal["finished", "stopped", "interrupted", "diverged", "failed"]
Result = TypeVar("Result")
SCORE = "score"


@dataclass(frozen=True)
class RunInfo:
    """What a callback is told of its run.

    Attributes:
        run_dir: The run's folder.
        algo: Algorithm.
        task: Task.
        seed: The run's seed.
        settings: Every setting by its name.
        policy: What is trained.
        steps_done: Policy updates of earlier processes; 0 in a run that is not resumed.
        evaluates: Whether there will be scores.
        tell: Writes a line on the console and into the run's log.
    """

    run_dir: Path
    algo: str
    task: str
    seed: int
    settings: Mapping[str, Any]
    policy: Any
    steps_done: int
    evaluates: bool
    tell: Callable[[str], None]


class Callback:
    """Follows a run; `train(..., callbacks=[...])` takes any number, each of one run.

    All is called between two updates, in the order of the list. Raise `StopTraining(reason)` to end
    the run well; any other exception ends it with the state saved, and comes out of `train`. A
    callback that draws random numbers or changes the policy changes the run.

    Attributes:
        every: Updates from one `on_update` to the next.
    """

    every: int = 1000

    def on_start(self, run: RunInfo) -> None:
        """Training begins, or goes on; `load_state_dict` was called before."""

    def on_update(self, step: int, policy: Any) -> None:
        """So many updates are done. At an epoch's end it comes before the evaluation."""

    def on_evaluation(self, epoch: int, scores: Scores) -> None:
        """An evaluation's outcome is there."""

    def on_epoch(self, epoch: int, metrics: Metrics, policy: Any) -> None:
        """An epoch's row of the curve is written.

        Args:
            epoch: Counted from 1; each comes once, in their order.
            metrics: The row, keys as in `policy_training_progress.csv`.
            policy: As it is now: where a worker process evaluates, a row may come in the midst of a
                later epoch.
        """

    def on_end(self, status: Status, summary: Any) -> None:
        """The run has ended.

        Args:
            status: How; `failed` where something raised.
            summary: The `Summary`; None of a run that did not come to an end.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""


class EachEpoch(Callback):
    """A function of (epoch, row) as a callback.

    Args:
        function: What it returns does not matter.
    """

    def __init__(self, function: OnEpoch) -> None:
        self._function = function
        self.name = getattr(function, "__qualname__", type(function).__name__)

    def on_epoch(self, epoch: int, metrics: Metrics, policy: Any) -> None:
        """Call it."""
        self._function(epoch, metrics)


class _Watch(Callback):
    """Knows the best value of a metric so far."""

    def __init__(self, metric: str = SCORE, *, lowest: bool = False) -> None:
        self.metric, self._sign = metric, -1.0 if lowest else 1.0
        self.best = math.nan

    def on_start(self, run: RunInfo) -> None:
        """Check that there will be something to watch."""
        if self.metric == SCORE and not run.evaluates:
            raise UserError(
                f"{type(self).__name__} watches the score, and nothing is evaluated in this run",
                "give metric= another column of the curve, or evaluate",
            )

    def _value(self, metrics: Metrics) -> float | None:
        names = SCORE_COLUMNS.values() if self.metric == SCORE else (self.metric,)
        return next((metrics[name] for name in names if name in metrics), None)

    def _improves(self, value: float, by: float = 0.0) -> bool:
        if math.isnan(value):
            return False
        if math.isnan(self.best) or self._sign * (value - self.best) > by:
            self.best = value
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self.best = float(state["best"])


class EarlyStopping(_Watch):
    """Ends a run that has not improved for a while.

    Args:
        patience: Rows with the metric, in a row, that may be no better than the best before them.
        metric: The evaluations' mean, or a column of the curve.
        lowest: The lowest value is the best.
        least: By how much a value must be better to count.
    """

    def __init__(
        self, patience: int, metric: str = SCORE, *, lowest: bool = False, least: float = 0.0
    ) -> None:
        if patience < 1:
            raise UserError(f"EarlyStopping's patience is {patience}: it must be 1 or more")
        super().__init__(metric, lowest=lowest)
        self.patience, self._least, self._waited = patience, least, 0

    def on_epoch(self, epoch: int, metrics: Metrics, policy: Any) -> None:
        """Count, and stop."""
        value = self._value(metrics)
        if value is None:
            return
        self._waited = 0 if self._improves(value, self._least) else self._waited + 1
        if self._waited >= self.patience:
            raise StopTraining(f"{self.metric} no better than {self.best:.4g} for {self._waited}")

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and how long ago it was."""
        return super().state_dict() | {"waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        super().load_state_dict(state)
        self._waited = int(state["waited"])


class KeepBest(_Watch):
    """Keeps the weights that were best in `checkpoint/best.pth`, and in `best.json` when.

    They are chosen with hindsight: to use, not a result to report.

    Args:
        metric: The evaluations' mean, or a column of the curve.
        lowest: The lowest value is the best.
    """

    def __init__(self, metric: str = SCORE, *, lowest: bool = False) -> None:
        super().__init__(metric, lowest=lowest)
        # of the epochs whose row is not there yet
        self._waiting: dict[int, dict[str, torch.Tensor]] = {}

    def on_start(self, run: RunInfo) -> None:
        """Find the place."""
        super().on_start(run)
        self._folder = run.run_dir / "checkpoint"
        self.every = int(run.settings["step_per_epoch"])

    def on_update(self, step: int, policy: Any) -> None:
        """Copy what will be evaluated."""
        weights = policy.state_dict().items()
        copies = {name: value.detach().to("cpu", copy=True) for name, value in weights}
        self._waiting[step // self.every] = copies

    def on_epoch(self, epoch: int, metrics: Metrics, policy: Any) -> None:
        """Keep the copy, or forget it."""
        weights, value = self._waiting.pop(epoch, None), self._value(metrics)
        if weights is None or value is None or not self._improves(value):
            return
        save_atomically(weights, self._folder / "best.pth")
        found = {"epoch": epoch, "step": epoch * self.every, "metric": self.metric, "value": value}
        write_json(self._folder / "best.json", found)

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and the copies that wait."""
        return super().state_dict() | {"waiting": self._waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on waiting."""
        super().load_state_dict(state)
        self._waiting = {int(epoch): dict(copies) for epoch, copies in state["waiting"].items()}


class KeepCheckpoints(Callback):
    """Keeps the policy's weights of some epochs in `checkpoint/policy-<updates>.pth`.

    Args:
        count: How many, evenly spread over the run, the last epoch's among them.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def on_start(self, run: RunInfo) -> None:
        """Choose the epochs."""
        self._folder, self._tell = run.run_dir / "checkpoint", run.tell
        self.every, epochs = int(run.settings["step_per_epoch"]), int(run.settings["epoch"])
        count = self._count
        self._steps = {-(-epochs * k // count) * self.every for k in range(1, count + 1)}

    def on_update(self, step: int, policy: Any) -> None:
        """Keep the weights, where there is space for them."""
        if step not in self._steps:
            return
        try:
            save_atomically(policy.state_dict(), self._folder / f"policy-{step:012d}.pth")
        except OSError as error:
            self._tell(f"cannot keep the weights of step {step} ({error}): training goes on")


class Callbacks:
    """A run's callbacks, as its trainer speaks to them.

    Args:
        callbacks: In the order in which they are called.
        policy: What is trained.

    Attributes:
        stopped: Why the run is to end well; empty while it is not.
        raised: What one of them raised, for whoever can save the state first; none hears of
            anything but the end afterwards.
        blame: Which one, where.
    """

    def __init__(self, callbacks: Iterable[Callback], policy: Any) -> None:
        self._all, self._policy = tuple(callbacks), policy
        self._at_updates = [c for c in self._all if type(c).on_update is not Callback.on_update]
        self.stopped = ""
        self.raised: BaseException | None = None
        self.blame = ""

    def around(self, run: RunInfo, work: Callable[[], Result]) -> Result:
        """Do the work between `on_start` and `on_end`.

        Raises:
            Exception: The work's, or what a callback raised.
        """
        try:
            self._call("on_start", self._all, run)
            self._raise()
            result = work()
        except BaseException as error:
            self.raised = None
            self._call("on_end", self._all, _status_of(error), None)
            if self.raised is not None:
                run.tell(self.blame)
            raise
        self._call("on_end", self._all, "stopped" if self.stopped else "finished", result)
        self._raise()
        return result

    @property
    def periods(self) -> list[int]:
        """Updates from one call to the next, of those that hear of updates.

        Raises:
            UserError: One has none.
        """
        for callback in self._at_updates:
            if callback.every < 1:
                raise UserError(f"{_name(callback)}.every is {callback.every}: give 1 or more")
        return [callback.every for callback in self._at_updates]

    def updated(self, step: int) -> None:
        """So many updates are done."""
        due = [callback for callback in self._at_updates if step % callback.every == 0]
        self._call("on_update", due, step, self._policy)

    def wrote(self, epoch: int, metrics: Metrics, scores: Scores | None) -> None:
        """An epoch's row is written."""
        if scores is not None:
            self._call("on_evaluation", self._all, epoch, scores)
        self._call("on_epoch", self._all, epoch, metrics, self._policy)

    def state(self) -> dict[str, Any]:
        """Their states by name, those that have one."""
        states = {name: callback.state_dict() for name, callback in self._named().items()}
        return {name: state for name, state in states.items() if state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Give each its own; one that comes new has none."""
        for name, callback in self._named().items():
            if name in state:
                callback.load_state_dict(state[name])

    def _named(self) -> dict[str, Callback]:
        names = list(map(_name, self._all))
        count = [names[:place].count(name) for place, name in enumerate(names)]
        return {f"{names[i]}/{count[i]}": callback for i, callback in enumerate(self._all)}

    def _call(self, hook: str, callbacks: Iterable[Callback], *told: Any) -> None:
        for callback in callbacks:
            if self.raised is not None:
                return
            try:
                getattr(callback, hook)(*told)
            except StopTraining as stop:
                self.stopped = self.stopped or f"{_name(callback)}: {stop}"
            except (Exception, TrainingInterrupted) as error:
                self.raised = error
                self.blame = f"callback {_name(callback)} raised in {hook}: {reason_of(error)}"
                if hasattr(error, "add_note"):  # from Python 3.11 on
                    error.add_note(f"raised by the callback {_name(callback)} in {hook}")

    def _raise(self) -> None:
        if self.raised is not None:
            raise self.raised


def _name(callback: Callback) -> str:
    return str(getattr(callback, "name", type(callback).__name__))


def _status_of(error: BaseException) -> Status:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, DivergedError) else "failed"
