"""When a run's full state is saved, within a share of its time, and what is said if that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from offlinerlkit_romi.engine import StateStore, capture, count_bytes, restore

# what a slow disk, a digest and a flush manage; used for what a state has grown by
BYTES_PER_SECOND = 100e6


class Checkpoints:
    """Saves and restores a run's state.

    Args:
        store: Where states lie.
        parts: What the trainer does not know of: generators, logger, configuration.
        tell: Hears one line per problem.
        every: Epochs from one save to the next at the least; 0 saves only when interrupted.
        share: Most of the run's time that saves may take; a state too large for that is saved
            every few epochs instead of every one. 1 saves whatever it takes.
        keep_last: Leave the last state in place when the run has ended.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        store: StateStore,
        parts: Mapping[str, Any],
        tell: Callable[[str], None],
        *,
        every: int = 1,
        share: float = 0.05,
        keep_last: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.store = store
        self._parts = dict(parts)
        self._tell = tell
        self._every, self._share, self._keep_last = every, share, keep_last
        self._clock, self._start = clock, clock()
        self._spent = 0.0
        self._last = (0.0, 0)  # seconds and bytes of the last save
        self._said = ""

    def begun(self, parts: Mapping[str, Any]) -> None:
        """Save what pre-training made, which is worth keeping."""
        if self._every:
            self.save(0, parts)

    def epoch_ended(self, epoch: int, step: int, parts: Mapping[str, Any]) -> None:
        """Save if it is time to, and if there is time for it."""
        if self._every and epoch % self._every == 0:
            self.save(step, parts, if_affordable=True)

    def save(self, step: int, parts: Mapping[str, Any], *, if_affordable: bool = False) -> bool:
        """Save the state after `step` updates; a failure is told, and the earlier states stay.

        Returns:
            Whether the state is on the disk.
        """
        try:
            state = {"step": step, **capture({**parts, **self._parts})}
            size = count_bytes(state)
            if if_affordable and not self._affords(size):
                return False
            start = self._clock()
            self.store.save(state, step)
        except OSError as error:
            self._complain(error)
            return False
        seconds = self._clock() - start
        self._spent += seconds
        self._last = (seconds, size)
        self._said = ""
        return True

    def load(self, parts: Mapping[str, Any]) -> int | None:
        """Restore the newest intact state; returns its step, None where none was ever written.

        Raises:
            UserError: No state is intact, or it does not fit.
        """
        state, refusals = self.store.load_newest()
        for refusal in refusals:
            self._tell(f"{refusal}; going on from the state before it")
        if state is None:
            return None
        step = int(state.pop("step"))
        restore({**parts, **self._parts}, state)
        return step

    def finished(self, step: int, parts: Mapping[str, Any] | None, *, keep: bool = False) -> None:
        """The run has ended: keep its last state (not one with NaN: `parts` is None), or none."""
        if not (self._keep_last or keep):
            self.store.clear()
        elif parts is not None:
            self.save(step, parts)

    def _affords(self, size: int) -> bool:
        if self._share >= 1:
            return True
        seconds, before = self._last
        expected = seconds + max(size - before, 0) / BYTES_PER_SECOND
        return self._spent + expected <= self._share * (self._clock() - self._start)

    def _complain(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason == self._said:
            return
        self._said = reason
        steps = self.store.steps()
        last = f"the state of step {steps[-1]} stays" if steps else "there is no state yet"
        self._tell(f"cannot save the state ({reason}): {last}; training goes on")
