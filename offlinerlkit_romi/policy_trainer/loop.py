"""The training loop every algorithm shares: update, evaluate, record, save.

An algorithm family adds events ("roll out every 250 steps before the update") and a way to draw a
batch; everything else is here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from offlinerlkit_romi.engine import Engine, save_atomically, spared_collector
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.policy_trainer.callbacks import Callback, Callbacks, EachEpoch, OnEpoch
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.curve import Curve, Row
from offlinerlkit_romi.policy_trainer.divergence import OnDivergence
from offlinerlkit_romi.policy_trainer.evaluation import Evaluation, Scorer, Scores, make_scorer
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.policy_trainer.sentinel import Sentinel
from offlinerlkit_romi.policy_trainer.timing import EVALUATION, POLICY_STEP, PhaseTimer
from offlinerlkit_romi.policy_trainer.updates import Event, Metrics, Updates, device_of, state_of
from offlinerlkit_romi.utils.logger import CONSOLE_NAME, MODEL_ROWS, WARN, WEIGHTS_FILE, Logger

# evaluations under way while an epoch trains: more would only grow the saved states
EVALUATIONS_AT_MOST = 2
Diagnose = Callable[[int, Callable[[], None]], Metrics]


class TrainerOptions(TypedDict, total=False):
    """What every trainer here takes beyond the kit's arguments, by keyword: see `PolicyTrainer`."""

    eval_freq: int
    eval_seed: int
    data_source: str
    close_logger: bool
    checkpoints: Checkpoints | None
    interrupts: Interrupts | None
    sentinel: Sentinel | None
    on_divergence: str
    diagnose: Diagnose | None
    on_epoch: OnEpoch | None
    callbacks: Sequence[Callback]
    engine: Engine | None


class PolicyTrainer:
    """Trains a policy for `epoch` epochs of `step_per_epoch` updates.

    Args:
        policy: What is trained.
        logger: Takes curves and messages, and names the folders to save to.
        eval_env: A task or its name, an environment with `get_normalized_score`, a scorer, or
            None.
        eval_episodes: Episodes per evaluation; 0 for none.
        epoch: Number of epochs.
        step_per_epoch: Updates per epoch.
        lr_scheduler: Stepped once per epoch.
        eval_freq: Epochs from one evaluation to the next; the last epoch always has one.
        eval_seed: Base of the evaluation episodes' seeds.
        data_source: Shown beside the scores.
        close_logger: Close the logger at the end, as the kit does.
        checkpoints: Saves the full state; none saves the policy's weights alone.
        interrupts: Tells of a signal to stop between two updates.
        sentinel: Watches for divergence; by default one that knows no bounds of Q and states.
        on_divergence: "stop" the run, or only "warn".
        diagnose: Called when an epoch's updates are done, with its number, from 1, and a function
            to call now and then, which raises where the run is to stop; returns further metrics.
        on_epoch: Called with the epoch, from 1, and its row of the curve, once per epoch and in
            their order: as soon as the row has its scores, which a worker may bring in the midst of
            a later epoch. What it raises ends the run before the next update, with its state saved,
            and comes out of `train`; `TrainingInterrupted` ends it as a signal does. A resumed run
            calls it for the rows that are still to be written.
        callbacks: Follow the training, after `on_epoch`; see `Callback`. `on_start` and `on_end`
            are called by whoever calls `callbacks.around`.
        engine: Carries out the updates; by default eagerly.

    Attributes:
        callbacks: They, as one.
        timer: Milliseconds per policy step, model update, rollout and evaluation.
        sound: All numbers of the last epoch were finite.
    """

    # names of handlers that policy rows are kept out of
    excluded_outputs: tuple[str, ...] = (CONSOLE_NAME, MODEL_ROWS)

    def __init__(
        self,
        policy: Any,
        logger: Logger,
        eval_env: Any,
        eval_episodes: int,
        epoch: int,
        step_per_epoch: int,
        lr_scheduler: Any = None,
        *,
        eval_freq: int = 1,
        eval_seed: int = 0,
        data_source: str = "",
        close_logger: bool = True,
        checkpoints: Checkpoints | None = None,
        interrupts: Interrupts | None = None,
        sentinel: Sentinel | None = None,
        on_divergence: str = "stop",
        diagnose: Diagnose | None = None,
        on_epoch: OnEpoch | None = None,
        callbacks: Sequence[Callback] = (),
        engine: Engine | None = None,
    ) -> None:
        self.policy = policy
        self.logger = logger
        self.scorer = make_scorer(eval_env, eval_episodes, eval_seed)
        self._late = None if isinstance(self.scorer, Scorer) else self.scorer
        self.lr_scheduler = lr_scheduler
        self.events: Sequence[Event] = ()
        self.timer = PhaseTimer(device_of(policy))
        self._epoch, self._step_per_epoch = epoch, step_per_epoch
        self._eval_freq = eval_freq
        self._data_source = data_source
        self._close_logger = close_logger
        self._diagnose = diagnose
        self.checkpoints = checkpoints
        self._interrupts = Interrupts() if interrupts is None else interrupts
        self.sentinel = Sentinel(state_of(policy)) if sentinel is None else sentinel
        self.engine = Engine() if engine is None else engine
        # a graph looks where its capture looked, which may be nowhere
        if self.engine.live:
            self.engine.kind = self.sentinel.looks
        else:
            self.sentinel.gradient_every = 1
        self.sound = True
        self._epochs_done = self._steps_done = 0
        self._weights_failed = False
        self._updates = Updates(policy, self.engine, self.sentinel, self._sample, self._transitions)
        self._divergence = OnDivergence(
            on_divergence, self.sentinel, logger, checkpoints, self._transitions
        )
        own = () if on_epoch is None else (EachEpoch(on_epoch),)
        self.callbacks = Callbacks((*own, *callbacks), policy)
        self._curve = Curve(
            logger, self.timer, step_per_epoch, self.excluded_outputs, self.callbacks
        )

    @property
    def history(self) -> list[tuple[int, Scores]]:
        """(policy steps, scores) of every evaluation whose outcome is there."""
        return self._curve.history

    @property
    def epochs_done(self) -> int:
        """Whole epochs so far, earlier processes' included."""
        return self._epochs_done

    @property
    def steps_done(self) -> int:
        """Policy updates so far, likewise."""
        return self._steps_done

    def train(self) -> dict[str, float]:
        """Run to the end and save `model/policy.pth`.

        Returns:
            `last_10_performance`: mean score of the last ten evaluations, NaN without any.

        Raises:
            DivergedError: The sentinel saw it; the last sound state stays as it was.
            TrainingInterrupted: A signal asked for it; the state is saved.
            Exception: Whatever a callback raised; the state is saved.
        """
        periods = [event.every for event in self.events if event.every > 0]
        periods += [self._step_per_epoch, *self.callbacks.periods]
        self._updates.hand_to_engine(periods, self._capture_obstacle())
        progress = self._curve.progress = Progress(
            self.logger, self._epoch, self._step_per_epoch, self._data_source, self._steps_done
        )
        try:
            if self._late is not None:
                self._late.open()
            with self._interrupts.deferred(), spared_collector():
                for epoch in range(self._epochs_done + 1, self._epoch + 1):
                    self._leave_if_asked()
                    progress.start_epoch(epoch)
                    self._run_epoch(epoch, progress)
                    scored = self._finish_epoch(epoch)
                    # between two epochs only: what a signal saves must be a state to go on from
                    self._curve.await_evaluations(EVALUATIONS_AT_MOST, self._leave_if_asked)
                    if self.callbacks.stopped and scored:
                        break
                self._curve.await_evaluations(0, self._leave_if_asked)
                if self.callbacks.raised is not None:
                    self._leave_if_asked()
        finally:
            if self._late is not None:
                self._late.close()
            progress.close()
            self.sentinel.close()
        if self._epochs_done == self._epoch:
            self.callbacks.stopped = ""  # too late to end anything
        self._save_final()
        if self._close_logger:
            self.logger.close()
        return {"last_10_performance": self.last_10_mean()}

    def last_10_mean(self) -> float:
        """Mean score of the last ten evaluations, NaN without any."""
        return self._curve.last_10_mean()

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
        parts |= {"trainer": self, "means": self._updates.means, "timer": self.timer}
        parts["sentinel"] = self.sentinel
        if self.lr_scheduler is not None:
            parts["lr_scheduler"] = self.lr_scheduler
        if self.scorer is not None and hasattr(self.scorer.evaluator, "state_dict"):
            parts["evaluator"] = self.scorer.evaluator
        return parts

    def state_dict(self) -> dict[str, Any]:
        """How far training is, all scores so far, and what is still to be scored."""
        done = {"epochs": self._epochs_done, "steps": self._steps_done}
        return done | self._curve.state() | {"callbacks": self.callbacks.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._epochs_done, self._steps_done = int(state["epochs"]), int(state["steps"])
        again = (lambda _: None) if self._late is None else self._late.again
        self._curve.load_state(state, again)
        self.callbacks.load_state(state.get("callbacks", {}))

    def _leave_if_asked(self) -> None:
        """Save and stop where a signal asked for it or a callback raised something.

        Raises:
            TrainingInterrupted: A signal did.
            Exception: What a callback raised.
        """
        if not self._asked_to_leave():
            return
        saved = self.checkpoints is not None and self.checkpoints.save(
            self._steps_done, self.state_parts()
        )
        if not saved:
            self._curve.drain()
        where = f"after step {self._steps_done}" + (", state saved" if saved else "")
        if self.callbacks.raised is not None:
            self.logger.log(f"{self.callbacks.blame}; the run ends {where}")
        raise self.callbacks.raised or TrainingInterrupted(f"interrupted {where}")

    def _asked_to_leave(self) -> bool:
        return self._interrupts.requested or self.callbacks.raised is not None

    def _sample(self) -> Any:
        """Draw what one update takes."""
        raise NotImplementedError

    def _save_final(self) -> None:
        save_atomically(self.policy.state_dict(), Path(self.logger.model_dir) / WEIGHTS_FILE)

    def _run_epoch(self, epoch: int, progress: Progress) -> None:
        self.policy.train()
        before, end = self._steps_done, epoch * self._step_per_epoch
        with self.timer.phase(POLICY_STEP, units=0):
            # a resumed epoch goes on after the steps it has done
            while self._steps_done < end:
                step, count = self._steps_done, self._updates.ahead(self._steps_done, end)
                self._fire(step, before_update=True)
                self._updates.advance(step, count)
                self._fire(step + count - 1, before_update=False)
                self._steps_done += count
                self.callbacks.updated(self._steps_done)
                progress.advance(count)
                self._curve.land()
                if self._asked_to_leave():
                    break
        self.timer.count(POLICY_STEP, self._steps_done - before)
        self._leave_if_asked()

    def _capture_obstacle(self) -> str:
        """Why the policy step cannot be captured, if so."""
        return ""

    def _fire(self, step: int, *, before_update: bool) -> None:
        for event in self.events:
            if event.before_update == before_update and event.due(step):
                with self.timer.phase(event.phase, event.units):
                    self._updates.note(event.action(), step)

    def _finish_epoch(self, epoch: int) -> bool:
        """Read the metrics, have the policy evaluated, hand in the row, save the checkpoint.

        Returns:
            Whether the policy was evaluated, as far as it can be.
        """
        steps = epoch * self._step_per_epoch
        if self._diagnose is not None:
            # may leave, and is then done again: nothing of the epoch's end is done before it
            self._updates.note(self._diagnose(epoch, self._leave_if_asked), steps - 1)
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        row = self._updates.means.result()
        findings = self.sentinel.check(steps, row)
        row |= self.sentinel.gradients
        # the rows before are sound
        sound = self.sound = self._divergence.judge(findings, before_stop=self._curve.drain)
        last = epoch == self._epoch or bool(self.callbacks.stopped)
        due = last or epoch % self._eval_freq == 0
        evaluation = self._evaluate() if due and sound else None
        row |= {f"time/ms_per_{name}": value for name, value in self.timer.lap().items()}
        self._curve.add(Row(epoch, row, evaluation))
        self._epochs_done = epoch
        if sound:  # a state with NaN in it must not push out a sound one
            self._save_weights()
        if self.checkpoints is not None and sound:
            self.checkpoints.epoch_ended(epoch, steps, self.state_parts())
        return due or self.scorer is None

    def _evaluate(self) -> Scores | Evaluation | None:
        """The policy's scores, or where they will come from; None without a scorer."""
        if self.scorer is None:
            return None
        with self.timer.phase(EVALUATION):
            if isinstance(self.scorer, Scorer):
                return self.scorer(self.policy)
            return self.scorer.start(self.policy)

    def _transitions(self) -> dict[str, Any]:
        """Buffers by what they hold, to look for the cause of a divergence in."""
        return {}

    def _save_weights(self) -> None:
        """The policy's weights for whoever reads an unfinished run."""
        try:
            path = Path(self.logger.checkpoint_dir) / WEIGHTS_FILE
            save_atomically(self.policy.state_dict(), path)
        except (OSError, RuntimeError) as error:  # torch's writer hides a full disk
            if not self._weights_failed:
                self.logger.log(f"cannot save the weights ({error}): training goes on", WARN)
            self._weights_failed = True
