"""Evaluation of snapshots, in a worker process while training goes on or in the training process.

An evaluation is a pure function of (acting weights, number): copies on the CPU, one thread, seeds
that follow from the number. So it does not matter where and when it runs, nor how often.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from offlinerlkit_romi.engine.device import cpu_threads
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer.evaluation import Scores
from offlinerlkit_romi.system.child import Child

SECONDS_AT_MOST = 900.0  # ten episodes take a few seconds; a loaded machine may need minutes
RESTARTS = 1
WORKER = "offlinerlkit_romi.policy_trainer.evaluation_worker"
Weights = Mapping[str, NDArray[Any]]
Judge = Callable[[int, Weights], Scores]
# of a child: an outcome, what is wrong with the policy, or nothing where something else went wrong
Answer = tuple[Scores, float | None] | str | None
Outcome = tuple[Scores, float | None]  # seconds in a worker; None without one


class Recipe(Protocol):
    """All that an evaluation depends on, the weights and its number apart; can be pickled."""

    def judge(self) -> Judge:
        """Make the function from (number, weights) to scores."""


class WorkerLost(Exception):
    """The worker died, and so did the one that took its place."""


class SnapshotScorer:
    """Evaluates copies of a policy's acting weights.

    Args:
        recipe: Everything else that an evaluation depends on.
        tell: Hears one line when a worker is lost.
        in_worker: Evaluate in a process of its own; otherwise at once, in this one.
        critics: Whether the evaluations ask the policy's critics too.
        seconds_at_most: A worker that takes longer is taken for lost.

    Attributes:
        evaluator: Counts the evaluations, which is all that the next one depends on.
    """

    def __init__(
        self,
        recipe: Recipe,
        tell: Callable[[str], None],
        *,
        in_worker: bool,
        critics: bool = False,
        seconds_at_most: float = SECONDS_AT_MOST,
    ) -> None:
        self.evaluator = _Count()
        self.in_worker = in_worker
        self._recipe, self._tell, self._seconds = recipe, tell, seconds_at_most
        self._critics = critics
        self._judge: Judge | None = None
        self._worker: Worker | None = None

    def open(self) -> None:
        """Start the worker: it takes seconds to import what it needs."""
        if self.in_worker and self._worker is None:
            self._worker = Worker(self._recipe, self._seconds)

    def close(self) -> None:
        """End the worker, whatever it is at."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def start(self, policy: Any) -> SnapshotEvaluation:
        """Copy the weights the policy acts with, and have them evaluated."""
        number, self.evaluator.calls = self.evaluator.calls, self.evaluator.calls + 1
        return self._ask(number, acting_weights(policy, self._critics))

    def again(self, state: Mapping[str, Any]) -> SnapshotEvaluation:
        """Repeat an evaluation whose outcome was not seen."""
        self.open()
        return self._ask(int(state["number"]), dict(state["weights"]))

    def judge(self, number: int, weights: Mapping[str, torch.Tensor]) -> Outcome:
        """Evaluate in this process."""
        if self._judge is None:
            self._judge = self._recipe.judge()
        with cpu_threads(1):
            return self._judge(number, _as_arrays(weights)), None

    def report(self) -> None:
        """Pass on what befell the worker."""
        while self._worker is not None and not self._worker.news.empty():
            self._tell(self._worker.news.get())

    def _ask(self, number: int, weights: dict[str, torch.Tensor]) -> SnapshotEvaluation:
        if self._worker is not None:
            outcome = self._worker.ask(number, _as_arrays(weights))
        else:
            outcome = Future()
            outcome.set_result(self.judge(number, weights))
        return SnapshotEvaluation(number, weights, outcome, self)


@dataclass(frozen=True)
class SnapshotEvaluation:
    """One evaluation under way.

    Attributes:
        number: Which one of the run, from 0.
        weights: What is evaluated.
    """

    number: int
    weights: dict[str, torch.Tensor]
    _outcome: Future[Outcome]
    _scorer: SnapshotScorer

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether the outcome is there, after waiting for at most `seconds`."""
        if seconds:
            wait([self._outcome], timeout=seconds)
        return self._outcome.done()

    def outcome(self) -> Outcome:
        """The scores and the seconds the worker took; None where there was none.

        Raises:
            UserError: The policy's actions are no actions.
        """
        self._scorer.report()
        try:
            return self._outcome.result()
        except WorkerLost:
            return self._scorer.judge(self.number, self.weights)

    def state(self) -> dict[str, Any]:
        """What it takes to repeat it."""
        return {"number": self.number, "weights": self.weights}


class Worker:
    """A child process that answers one question at a time, and the thread that talks to it.

    Args:
        recipe: Sent to the child first.
        seconds_at_most: A child that has not answered by then is killed.

    Attributes:
        news: Lines about children that were lost.
    """

    def __init__(self, recipe: Recipe, seconds_at_most: float) -> None:
        self.news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._recipe, self._seconds = recipe, seconds_at_most
        self._questions: queue.SimpleQueue[tuple[Any, Future[Outcome]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._child: Child | None = None
        self._losses = 0
        self._thread = threading.Thread(target=self._serve, name="evaluation", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The child's number, None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def ask(self, number: int, weights: Weights) -> Future[Outcome]:
        """Ask for an evaluation; the answer is `WorkerLost` where no child can give one."""
        outcome: Future[Outcome] = Future()
        self._questions.put(((number, weights), outcome))
        return outcome

    def close(self) -> None:
        """Kill the child and end the thread; open questions stay unanswered."""
        with self._lock:
            self._closing = True
            if self._child is not None:
                self._child.kill()
        self._questions.put(None)
        self._thread.join()

    def _serve(self) -> None:
        self._answering(self._start_child)
        while not self._closing and (entry := self._questions.get()) is not None:
            question, outcome = entry
            answer = self._answering(partial(self._converse, question))
            if isinstance(answer, tuple):
                outcome.set_result(answer)
            else:
                outcome.set_exception(WorkerLost() if answer is None else UserError(answer))
        self._forget_child()

    def _answering(self, attempt: Callable[[], Answer]) -> Answer:
        """Try until it succeeds or too many children are lost."""
        while self._losses <= RESTARTS and not self._closing:
            try:
                return attempt()
            except Exception as error:  # whatever it is, somebody waits for an answer
                if not self._closing:
                    self._losses += 1
                    self.news.put(self._describe_loss(error))
                self._forget_child()
        return None

    def _start_child(self) -> None:
        with self._lock:
            if self._closing:
                raise EOFError
            self._child = Child(WORKER)
        self._child.send(self._recipe)

    def _converse(self, question: Any) -> Answer:
        if self._child is None:
            self._start_child()
        child = self._child
        assert child is not None
        watchdog = threading.Timer(self._seconds, child.kill, ["no answer in time"])
        watchdog.start()
        try:
            child.send(question)
            answer: Answer = child.receive()
            return answer
        finally:
            watchdog.cancel()

    def _describe_loss(self, error: Exception) -> str:
        remedy = (
            "starting another"
            if self._losses <= RESTARTS
            else "the training process evaluates from now on"
        )
        ended = "" if self._child is None else self._child.last_words()
        reason = ended or f"{type(error).__name__}: {error}"
        return f"the evaluation worker was lost ({reason}): {remedy}"

    def _forget_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Count:
    """How many evaluations were asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint, in the format of an evaluator's."""
        return {"calls": self.calls}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on counting."""
        self.calls = int(state["calls"])


def acting_weights(policy: Any, critics: bool = False) -> dict[str, torch.Tensor]:
    """Copies on the CPU of what `select_action` reads, and with `critics` of those."""
    others = critic_names(policy) if critics else ()
    return {
        name: value.detach().to("cpu", copy=True)
        for name, value in policy.state_dict().items()
        if acts(policy, name) or name.partition(".")[0] in others
    }


def critic_names(policy: Any) -> tuple[str, ...]:
    """The children that `policy.critics` are; none where it has none."""
    found = getattr(policy, "critics", ())
    parts = found if isinstance(found, tuple) else (found,)
    return tuple(name for name, child in policy.named_children() if any(child is x for x in parts))


def acts(policy: Any, name: str) -> bool:
    """Whether `select_action` reads the weight of that name."""
    return name.partition(".")[0] in policy.acts_with


def _as_arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in weights.items()}
