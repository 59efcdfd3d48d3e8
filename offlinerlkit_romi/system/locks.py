"""Locks between processes; the system lets go of one when its holder dies, however it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked(lock: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock, so that of many runs started at once one does what it guards.

    Args:
        lock: Its file, made where it is missing; it stays.
        on_wait: Called where another one holds it, before waiting; may raise instead.
    """
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        if on_wait is not None:
            on_wait()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def lock_beside(path: Path) -> Path:
    """The lock of a file that is prepared once: a hidden file in its folder."""
    return path.with_name(f".{path.name}.lock")
