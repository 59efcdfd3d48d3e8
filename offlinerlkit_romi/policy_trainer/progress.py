"""What a waiting person sees: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from offlinerlkit_romi.utils.logger import BACKUP, DEBUG, INFO, Logger
from offlinerlkit_romi.utils.text import bar, clock

# seconds before work beside the steps is told, and from one line to the next that is no detail
FIRST_LINE, NEXT_LINE = 2.0, 10.0


class Progress:
    """Reports on a training run of `epochs` times `steps` policy steps.

    Args:
        logger: Takes the epoch lines; while a bar is shown they go to the text file alone.
        epochs: Epochs to come.
        steps: Policy steps per epoch.
        data_source: Shown beside every score, so that a score on generated data is never taken
            for one on D4RL's.
        done: Policy steps of a resumed run that are done already.
    """

    def __init__(
        self, logger: Logger, epochs: int, steps: int, data_source: str, done: int = 0
    ) -> None:
        self._logger = logger
        self._epochs, self._steps = epochs, steps
        self._source = data_source
        self._start = time.perf_counter()
        self._advanced, self._left = 0, epochs * steps - done
        self._next = self._start
        self._bar: Any = None
        if logger.shows_bars:
            self._bar = bar("", epochs * steps, "step", initial=done, position=logger.row)

    def start_epoch(self, epoch: int) -> None:
        """Name the epoch that begins."""
        if self._bar is not None:
            self._bar.set_description(f"{self._logger.label}Epoch {epoch}/{self._epochs}")

    def advance(self, steps: int = 1) -> None:
        """Count policy steps."""
        self._advanced += steps
        if self._bar is not None:
            self._bar.update(steps)

    def end_epoch(self, epoch: int, row: dict[str, float]) -> None:
        """Report an epoch's row of metrics; scores may come when later steps are under way."""
        parts = describe(row)
        if self._source:
            parts["data"] = self._source
        if self._bar is not None:
            # the bar shows its own rate
            self._bar.set_postfix({k: v for k, v in parts.items() if k != "ms/step"})
        shown = "  ".join(f"{name} {value}" for name, value in parts.items())
        elapsed = time.perf_counter() - self._start
        pace = elapsed / self._advanced if self._advanced else 0.0  # of a step, in seconds
        line = (
            f"epoch {epoch}/{self._epochs}  step {epoch * self._steps}  {shown}  "
            f"{clock(elapsed)} elapsed, {clock(pace * (self._left - self._advanced))} left"
        )
        self._logger.log(line, self._level(epoch) if self._bar is None else BACKUP)

    def _level(self, epoch: int) -> int:
        """A notebook is not flooded: details between one line and the next."""
        if (now := time.perf_counter()) < self._next and epoch < self._epochs:
            return DEBUG
        self._next = now + NEXT_LINE
        return INFO

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._bar is not None:
            self._bar.close()


class Stage:
    """Reports on work beside the steps: a bar of its own, elsewhere a line where it takes long.

    Args:
        logger: Takes the lines.
        title: What is done.
        clock: Tells the seconds.
    """

    def __init__(
        self, logger: Logger, title: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._logger, self._title, self._clock = logger, title, clock
        self._next = clock() + FIRST_LINE
        self._bar: Any = None

    def __enter__(self) -> Stage:
        if self._logger.shows_bars:
            # a free row: the run's bar keeps its own
            title = f"{self._logger.label}{self._title}"
            self._bar = bar(title, 100, "%", leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, share: float) -> None:
        """Tell how much is done, up to 1."""
        if self._bar is not None:
            self._bar.update(round(100 * share) - self._bar.n)
        elif self._clock() >= self._next:
            self._next = self._clock() + NEXT_LINE
            self._logger.log(f"{self._title}: {share:.0%}")


def describe(row: dict[str, float]) -> dict[str, str]:
    """The few numbers of a row worth watching: score, mean Q, speed."""
    parts = {}
    if "eval/episode_reward" in row:
        parts["return"] = f"{row['eval/episode_reward']:.4g}±{row['eval/episode_reward_std']:.3g}"
    for name in ("fqe", "model"):
        if f"estimate/{name}" in row:
            parts[f"{name} estimate"] = f"{row[f'estimate/{name}']:.4g}"
        elif row.get(f"estimate/{name}_settled") == 0:
            parts[f"{name} estimate"] = "did not settle"
    if "eval/normalized_episode_reward" in row:
        spread = row["eval/normalized_episode_reward_std"]
        parts["score"] = f"{row['eval/normalized_episode_reward']:.1f}±{spread:.1f}"
    for key, name in (("q/real", "Q(real)"), ("q/model", "Q(model)")):
        if key in row:
            parts[name] = f"{row[key]:.4g}"
    if "time/ms_per_policy_step" in row:
        parts["ms/step"] = f"{row['time/ms_per_policy_step']:.2f}"
    return parts
