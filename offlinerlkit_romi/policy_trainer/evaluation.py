"""From a policy to a normalised score, whatever simulator stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.envs import EvalSettings, Task

# the column of an evaluation's outcome, by its scale
SCORE_COLUMNS = {"score": "eval/normalized_episode_reward", "return": "eval/episode_reward"}
Returns = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One evaluation: normalised score (0 random, 100 expert) and episode lengths.

    `scale` is "score", or "return" for a task without a score scale: mean and std are then those of
    the undiscounted returns. `shifted` has the mean under each condition of `--eval-shift`.
    """

    mean: float
    std: float
    length_mean: float
    length_std: float
    scale: str = "score"
    shifted: Mapping[str, float] = field(default_factory=dict)

    def as_metrics(self) -> dict[str, float]:
        """Under the kit's keys."""
        name = SCORE_COLUMNS[self.scale]
        return {
            name: self.mean,
            f"{name}_std": self.std,
            "eval/episode_length": self.length_mean,
            "eval/episode_length_std": self.length_std,
            **{f"shifted/{condition}": mean for condition, mean in self.shifted.items()},
        }


class Scorer:
    """Evaluates a policy and puts its returns on a score scale.

    Args:
        evaluator: `evaluator(policy)` returns something with `returns` (n,) and `lengths` (n,).
        to_score: Returns (n,) to scores (n,), x100. The spread of the scores is then free of the
            shift that the kit adds to it by scoring the returns' standard deviation. None leaves
            the returns as they are.
    """

    def __init__(
        self, evaluator: Callable[[Any], Any], to_score: Callable[[Returns], Returns] | None
    ) -> None:
        self.evaluator = evaluator
        self.to_score = to_score

    def __call__(self, policy: Any) -> Scores:
        """Run the evaluator's episodes in evaluation mode."""
        policy.eval()
        return self.of(self.evaluator(policy))

    def of(self, result: Any) -> Scores:
        """The scores of an evaluation's returns and lengths."""
        scores = np.asarray(result.returns, np.float64)
        if self.to_score is not None:
            scores = np.asarray(self.to_score(scores))
        lengths = np.asarray(result.lengths, np.float64)
        return Scores(
            float(scores.mean()),
            float(scores.std()),
            float(lengths.mean()),
            float(lengths.std()),
            "return" if self.to_score is None else "score",
        )


class Evaluation(Protocol):
    """An evaluation under way."""

    def ready(self, seconds: float = ...) -> bool:
        """Whether the outcome is there, after waiting for at most `seconds`."""

    def outcome(self) -> tuple[Scores, float | None]:
        """The scores, and the seconds a worker took for them; None where there was no worker."""

    def state(self) -> Mapping[str, Any]:
        """What it takes to repeat it."""


class LateScorer(Protocol):
    """Scores policies while training goes on; `evaluator` is part of the trainer's state."""

    evaluator: Any

    def start(self, policy: Any) -> Evaluation:
        """Begin the next evaluation."""

    def again(self, state: Mapping[str, Any]) -> Evaluation:
        """Repeat one whose outcome was not seen."""

    def open(self) -> None:
        """Training begins."""

    def close(self) -> None:
        """Training has ended."""


def score_scale(task: Task | str) -> Callable[[Returns], Returns] | None:
    """Returns (n,) to a task's scores (n,); None for a task of the user's without a scale."""
    from offlinerlkit_romi.envs import normalized_score
    from offlinerlkit_romi.envs.custom import CustomTask

    if isinstance(task, CustomTask) and not task.has_scores:
        return None
    return lambda returns: normalized_score(returns, task)


def task_scorer(task: str | Task, settings: EvalSettings) -> Scorer:
    """A scorer on the simulator of a task, or of a task's name."""
    from offlinerlkit_romi.envs import Evaluator

    return Scorer(Evaluator(task, settings), score_scale(task))


def make_scorer(eval_env: Any, episodes: int, seed: int) -> Scorer | LateScorer | None:
    """Make the scorer for what a trainer was given as `eval_env`.

    Args:
        eval_env: A task or its name; an environment with `get_normalized_score`, as the kit's
            scripts pass; a scorer; or None.
        episodes: Episodes per evaluation; 0 means none.
        seed: Base of the episodes' seeds.

    Returns:
        None where there is nothing to evaluate.

    Raises:
        UserError: An environment without a score scale, or a missing simulator package.
    """
    if eval_env is None or episodes == 0:
        return None
    if isinstance(eval_env, Scorer) or hasattr(eval_env, "again"):
        scorer: Scorer | LateScorer = eval_env
        return scorer
    from offlinerlkit_romi.envs import EvalSettings, Evaluator, Task

    settings = EvalSettings(episodes, seed)
    if isinstance(eval_env, (str, Task)):
        return task_scorer(eval_env, settings)
    if not hasattr(eval_env, "get_normalized_score"):
        raise UserError(
            f"cannot score on {type(eval_env).__name__}: pass a task's name, or an environment "
            "with get_normalized_score(return)"
        )
    return Scorer(
        Evaluator(eval_env, settings),
        lambda returns: np.array([100 * eval_env.get_normalized_score(r) for r in returns]),
    )
