"""What a training process and its evaluation worker say to each other."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

from numpy.typing import NDArray

from offlinerlkit_romi.policy_trainer.scoring import Scores

Weights = Mapping[str, NDArray[Any]]
Judge = Callable[[int, Weights], Scores]


class Recipe(Protocol):
    """All that an evaluation depends on, the weights and its number apart; can be pickled."""

    def judge(self) -> Judge:
        """Make the function from (number, weights) to scores."""


@dataclass(frozen=True)
class Reply:
    """What became of an evaluation.

    Attributes:
        seconds: How long it took.
        scores: Its outcome.
        complaint: What was wrong with the policy, in a line for the user.
        failure: An exception that is neither.
        in_worker: Whether a child process did it.
    """

    seconds: float
    scores: Scores | None = None
    complaint: str = ""
    failure: str = ""
    in_worker: bool = True


def evaluate(judge: Judge, number: int, weights: Weights) -> Reply:
    """Carry out one evaluation."""
    start = time.perf_counter()
    scores = judge(number, weights)
    return Reply(time.perf_counter() - start, scores)


def send(out: IO[bytes], message: object) -> None:
    """Write one message."""
    pickle.dump(message, out, protocol=pickle.HIGHEST_PROTOCOL)
    out.flush()
