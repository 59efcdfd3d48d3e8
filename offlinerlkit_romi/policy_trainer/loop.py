"""The training loop every algorithm shares: update, evaluate, record, save.

An algorithm family adds events ("roll out every 250 steps before the update") and a way to draw a
batch; everything else is here once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.engine import (
    Engine,
    MetricMeans,
    Steps,
    save_atomically,
    spared_collector,
    write_json,
)
from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.diagnosis import explain, in_words
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.policy_trainer.ledger import Ledger, Row
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.policy_trainer.scoring import Scores, ScoresPolicies
from offlinerlkit_romi.policy_trainer.sentinel import Finding, Sentinel
from offlinerlkit_romi.policy_trainer.timing import (
    EVALUATION,
    EVALUATION_WORKER,
    POLICY_STEP,
    PhaseTimer,
)
from offlinerlkit_romi.utils.logger import CONSOLE_NAME, Logger

Metrics = Mapping[str, torch.Tensor | float]
# evaluations under way while an epoch trains: more would only grow the saved states
EVALUATIONS_AT_MOST = 2


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


class PolicyTrainer:
    """Trains a policy for `epoch` epochs of `step_per_epoch` updates.

    Attributes:
        history: (policy steps, scores) of every evaluation whose outcome is there.
        timer: Milliseconds per policy step, model update, rollout and evaluation.
        sound: All numbers of the last epoch were finite.
    """

    # names of handlers that policy rows are kept out of
    excluded_outputs: tuple[str, ...] = (CONSOLE_NAME, "dynamics_training_progress")

    def __init__(
        self,
        policy: Any,
        logger: Logger,
        scorer: ScoresPolicies | None,
        *,
        epoch: int,
        step_per_epoch: int,
        lr_scheduler: Any = None,
        eval_freq: int = 1,
        data_source: str = "",
        close_logger: bool = True,
        diagnose: Callable[[], Metrics] | None = None,
        checkpoints: Checkpoints | None = None,
        interrupts: Interrupts | None = None,
        sentinel: Sentinel | None = None,
        on_divergence: str = "stop",
        engine: Engine | None = None,
    ) -> None:
        self.policy = policy
        self.logger = logger
        self.scorer = scorer
        self.lr_scheduler = lr_scheduler
        self.events: Sequence[Event] = ()
        self.history: list[tuple[int, Scores]] = []
        self.timer = PhaseTimer(_device_of(policy))
        self._epoch, self._step_per_epoch = epoch, step_per_epoch
        self._eval_freq = eval_freq
        self._data_source = data_source
        self._close_logger = close_logger
        self._diagnose = diagnose
        self._means = MetricMeans()
        self.checkpoints = checkpoints
        self._interrupts = Interrupts() if interrupts is None else interrupts
        self.sentinel = Sentinel(state_of(policy)) if sentinel is None else sentinel
        self._on_divergence = on_divergence
        self._warned: set[str] = set()
        self.sound = True
        self._epochs_done = self._steps_done = 0
        self._weights_failed = False
        self._ledger = Ledger(self._write)
        self._progress: Progress | None = None
        self.engine = Engine() if engine is None else engine
        # policy steps done, for captured steps, which the host cannot tell
        self._clock = torch.zeros((), dtype=torch.int64, device=_device_of(policy))
        self._updates: Steps | None = None
        self._unroll = 1

    def train(self) -> dict[str, float]:
        """Run to the end and save `model/policy.pth`.

        Returns:
            `last_10_performance`: mean score of the last ten evaluations, NaN without any.

        Raises:
            DivergedError: The sentinel saw it; the last sound state stays as it was.
            TrainingInterrupted: A signal asked for it; the state is saved.
        """
        self._hand_to_engine()
        progress = self._progress = Progress(
            self.logger, self._epoch, self._step_per_epoch, self._data_source, self._steps_done
        )
        try:
            if self.scorer is not None:
                self.scorer.open()
            with self._interrupts.deferred(), spared_collector():
                for epoch in range(self._epochs_done + 1, self._epoch + 1):
                    self._leave_if_asked()
                    progress.start_epoch(epoch)
                    self._run_epoch(epoch, progress)
                    self._finish_epoch(epoch)
                    self._await_evaluations(EVALUATIONS_AT_MOST)
                self._await_evaluations()
        finally:
            if self.scorer is not None:
                self.scorer.close()
            progress.close()
            self.sentinel.close()
        self._save_final()
        if self._close_logger:
            self.logger.close()
        return {"last_10_performance": self.last_10_mean()}

    def last_10_mean(self) -> float:
        """Mean score of the last ten evaluations, NaN without any."""
        last = deque((scores.mean for _, scores in self.history), maxlen=10)
        return sum(last) / len(last) if last else math.nan

    def resume(self) -> int | None:
        """Go on from the newest saved state; returns its step, None where there is none.

        Raises:
            UserError: No state is intact, or it is of another run.
        """
        self.engine.forget()
        return None if self.checkpoints is None else self.checkpoints.load(self.state_parts())

    def state_parts(self) -> dict[str, Any]:
        """Everything that training mutates, by name, what the policy lists first of all."""
        parts = {f"policy/{name}": x for name, x in self.policy.training_state().items()}
        parts |= {"trainer": self, "means": self._means, "timer": self.timer}
        parts["sentinel"] = self.sentinel
        if self.lr_scheduler is not None:
            parts["lr_scheduler"] = self.lr_scheduler
        if self.scorer is not None and hasattr(self.scorer.evaluator, "state_dict"):
            parts["evaluator"] = self.scorer.evaluator
        return parts

    def state_dict(self) -> dict[str, Any]:
        """How far training is, all scores so far, and what is still to be scored."""
        history = [(step, *astuple(scores)) for step, scores in self.history]
        done = {"epochs": self._epochs_done, "steps": self._steps_done}
        return done | {"history": history, "waiting": self._ledger.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._epochs_done, self._steps_done = int(state["epochs"]), int(state["steps"])
        self.history = [(int(step), Scores(*scores)) for step, *scores in state["history"]]
        again = (lambda _: None) if self.scorer is None else self.scorer.again
        self._ledger.load_state(state.get("waiting", []), again)

    def _leave_if_asked(self) -> None:
        """Save and stop where a signal asked for it.

        Raises:
            TrainingInterrupted: It did.
        """
        if not self._interrupts.requested:
            return
        saved = self.checkpoints is not None and self.checkpoints.save(
            self._steps_done, self.state_parts()
        )
        if not saved:
            self._ledger.drain()
        where = f"after step {self._steps_done}" + (", state saved" if saved else "")
        raise TrainingInterrupted(f"interrupted {where}")

    def _sample(self) -> Any:
        """Draw what one update takes."""
        raise NotImplementedError

    def _save_final(self) -> None:
        save_atomically(self.policy.state_dict(), Path(self.logger.model_dir) / "policy.pth")

    def _run_epoch(self, epoch: int, progress: Progress) -> None:
        self.policy.train()
        before, end = self._steps_done, epoch * self._step_per_epoch
        with self.timer.phase(POLICY_STEP, units=0):
            # a resumed epoch goes on after the steps it has done
            while self._steps_done < end:
                step, count = self._steps_done, self._steps_ahead(end)
                self._fire(step, before_update=True)
                self._advance(count)
                self._fire(step + count - 1, before_update=False)
                self._steps_done += count
                progress.advance(count)
                self._ledger.land()
                if self._interrupts.requested:
                    break
        self.timer.count(POLICY_STEP, self._steps_done - before)
        self._leave_if_asked()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()

    def _hand_to_engine(self) -> None:
        """Let the engine carry out what it can capture."""
        # the kit's own policies have no `update`
        if self._updates or not self.engine.captures or not hasattr(self.policy, "update"):
            return
        self.engine.shared |= {
            "clock": self._clock,
            "means": self._means,
            "sentinel": self.sentinel,
        }
        steps = self.engine.steps(
            "the policy step", self._update, self._stepped, self._capture_obstacle()
        )
        if steps.captured:
            periods = (event.every for event in self.events if event.every > 0)
            self._updates = steps
            self._unroll = self.engine.unrolled(math.gcd(self._step_per_epoch, *periods))

    def _steps_ahead(self, end: int) -> int:
        """Updates until something else may be due: as many as a replay does, or one."""
        whole = self._steps_done % self._unroll == 0 and self._steps_done + self._unroll <= end
        return self._unroll if whole else 1

    def _advance(self, count: int) -> None:
        if self._updates is None:
            update = getattr(self.policy, "update", self.policy.learn)
            self._note(update(self._sample()), self._steps_done)
        else:
            self._clock.fill_(self._steps_done)
            self._updates(count, self.policy.phase)

    def _update(self, count: int, phase: int) -> None:
        """Some updates, `phase` of the first, with all bookkeeping on the device."""
        for _ in range(count):
            metrics = self.policy.update(self._sample())
            self._clock.add_(1)
            self._means.add(metrics)
            self.sentinel.watch(metrics, self._clock)

    def _stepped(self) -> dict[str, Any]:
        """What an update changes."""
        return state_of(self.policy) | {
            f"draws of {name}": buffer.generator
            for name, buffer in self._transitions().items()
            if getattr(buffer, "generator", None) is not None
        }

    def _capture_obstacle(self) -> str:
        """Why the policy step cannot be captured, if so."""
        return ""

    def _fire(self, step: int, *, before_update: bool) -> None:
        for event in self.events:
            if event.before_update == before_update and event.due(step):
                with self.timer.phase(event.phase, event.units):
                    self._note(event.action(), step)

    def _note(self, metrics: Metrics, step: int) -> None:
        self._means.add(metrics)
        self.sentinel.watch(metrics, step + 1)

    def _finish_epoch(self, epoch: int) -> None:
        """Read the metrics, have the policy evaluated, hand in the row, save the checkpoint."""
        steps = epoch * self._step_per_epoch
        if self._diagnose is not None:
            self._note(self._diagnose(), steps - 1)
        row = self._means.result()
        sound = self.sound = self._judge(self.sentinel.check(steps, row))
        due = epoch % self._eval_freq == 0 or epoch == self._epoch
        evaluation = None
        if self.scorer is not None and due and sound:
            with self.timer.phase(EVALUATION):
                evaluation = self.scorer.start(self.policy)
        row |= {f"time/ms_per_{name}": value for name, value in self.timer.lap().items()}
        self._ledger.add(Row(epoch, row, evaluation))
        self._epochs_done = epoch
        if sound:  # a state with NaN in it must not push out a sound one
            self._save_weights()
        if self.checkpoints is not None and sound:
            self.checkpoints.epoch_ended(epoch, steps, self.state_parts())

    def _write(self, row: Row) -> None:
        """Write an epoch's row, with the scores it waited for."""
        steps, values = row.epoch * self._step_per_epoch, dict(row.values)
        if row.evaluation is not None:
            with self.timer.phase(EVALUATION, units=0):
                scores, seconds = row.evaluation.outcome()
            self.history.append((steps, scores))
            values |= scores.as_metrics()
            if seconds is not None:
                self.timer.record(EVALUATION_WORKER, seconds)
                values[f"time/ms_per_{EVALUATION_WORKER}"] = 1000 * seconds
        for key, value in values.items():
            self.logger.logkv(key, value)
        self.logger.set_timestep(steps)
        self.logger.dumpkvs(exclude=self.excluded_outputs)
        if self._progress is not None:
            self._progress.end_epoch(row.epoch, values)

    def _await_evaluations(self, at_most: int = 0) -> None:
        """Wait until at most so many are under way; a signal ends the waiting.

        Between two epochs only: what a signal saves must be a state to go on from.
        """
        with self.timer.phase(EVALUATION, units=0):
            self._ledger.drain(at_most, self._leave_if_asked)

    def _judge(self, findings: list[Finding]) -> bool:
        """Tell what the sentinel found; returns whether all numbers are finite.

        Raises:
            DivergedError: It found divergence, and the run is to stop at it.
        """
        if not findings:
            return True
        fatal = [finding for finding in findings if finding.fatal]
        stop = bool(fatal) and self._on_divergence == "stop"
        diagnosis = explain(
            fatal or findings,
            self.sentinel.non_finite_networks(),
            self._transitions(),
            self._last_good(),
        )
        path = Path(self.logger.result_dir) / "diagnosis.json"
        write_json(path, diagnosis | {"stopped": stop})
        words = in_words(diagnosis)
        if stop:
            self._ledger.drain()  # the rows before are sound
            raise DivergedError(f"training diverged: {words}; see {path}")
        if {finding.quantity for finding in findings} - self._warned:
            self._warned |= {finding.quantity for finding in findings}
            self.logger.log(f"warning: {words}; see {path}")
        return all(finding.kind != "not finite" for finding in findings)

    def _transitions(self) -> dict[str, Any]:
        """Buffers by what they hold, to look for the cause of a divergence in."""
        return {}

    def _last_good(self) -> str:
        steps = [] if self.checkpoints is None else self.checkpoints.store.steps()
        if self.checkpoints is not None and steps:
            return f"the last sound state is {self.checkpoints.store.path(steps[-1])}"
        weights = Path(self.logger.checkpoint_dir) / "policy.pth"
        return (
            f"{weights} holds the policy of the last sound epoch"
            if weights.is_file()
            else "no epoch was sound"
        )

    def _save_weights(self) -> None:
        """The policy's weights for whoever reads an unfinished run."""
        try:
            path = Path(self.logger.checkpoint_dir) / "policy.pth"
            save_atomically(self.policy.state_dict(), path)
        except (OSError, RuntimeError) as error:  # torch's writer hides a full disk
            if not self._weights_failed:
                self.logger.log(f"cannot save the weights ({error}): training goes on")
            self._weights_failed = True


def state_of(policy: Any) -> dict[str, Any]:
    """What a policy says training mutates; the kit's own policies say nothing."""
    state = getattr(policy, "training_state", None)
    return {"policy": policy} if state is None else state()


def _device_of(policy: Any) -> torch.device:
    parameter = next(iter(policy.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device
