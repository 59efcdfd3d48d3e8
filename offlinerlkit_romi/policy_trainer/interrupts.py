"""SIGTERM and Ctrl-C: the first lets the update in progress end, the second does not wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from offlinerlkit_romi.errors import TrainingInterrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Turns the two signals into a request that the training loop reads between updates.

    Outside `deferred` the first signal ends the run at once: there is nothing to finish. The
    handlers are installed by `with`, in the main thread only, and put back afterwards.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal only sets `requested`."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def check(self) -> None:
        """Leave if a signal asked for it.

        Raises:
            TrainingInterrupted: It did.
        """
        if self.requested:
            raise TrainingInterrupted("interrupted")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring:
            raise TrainingInterrupted("interrupted")
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Follower(Interrupts):
    """What a run in another thread sees of the main thread's signals.

    Args:
        leader: Receives them.
        abandoned: Set at the second signal: the run ends at its next update, without saving.
    """

    def __init__(self, leader: Interrupts, abandoned: threading.Event) -> None:
        self._leader, self._abandoned = leader, abandoned

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """Whether a signal asked to stop.

        Raises:
            KeyboardInterrupt: A second one did.
        """
        if self._abandoned.is_set():
            raise KeyboardInterrupt
        return self._leader.requested

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        """The main thread has the handlers."""

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals never break into this thread."""
        yield
