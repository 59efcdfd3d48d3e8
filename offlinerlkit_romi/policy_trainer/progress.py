"""What a waiting person sees: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from offlinerlkit_romi.utils.logger import BACKUP, INFO, Logger


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
        self._bar = _make_bar(logger, epochs * steps, done) if on_terminal() else None

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
        self._logger.log(line, INFO if self._bar is None else BACKUP)

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._bar is not None:
            self._bar.close()


def on_terminal() -> bool:
    """Whether a bar on stderr would be seen: a terminal of width 0 shows none."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        return True


def describe(row: dict[str, float]) -> dict[str, str]:
    """The few numbers of a row worth watching: score, mean Q, speed."""
    parts = {}
    if "eval/episode_reward" in row:
        parts["return"] = f"{row['eval/episode_reward']:.4g}±{row['eval/episode_reward_std']:.3g}"
    for name in ("fqe", "model"):
        if f"estimate/{name}" in row:
            parts[f"{name} estimate"] = f"{row[f'estimate/{name}']:.4g}"
    if "eval/normalized_episode_reward" in row:
        spread = row["eval/normalized_episode_reward_std"]
        parts["score"] = f"{row['eval/normalized_episode_reward']:.1f}±{spread:.1f}"
    for key, name in (("q/real", "Q(real)"), ("q/model", "Q(model)")):
        if key in row:
            parts[name] = f"{row[key]:.4g}"
    if "time/ms_per_policy_step" in row:
        parts["ms/step"] = f"{row['time/ms_per_policy_step']:.2f}"
    return parts


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _make_bar(logger: Logger, total: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, position=logger.row)
