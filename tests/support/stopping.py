"""Functions that are heard when they are called, and runs that are stopped in the midst."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from offlinerlkit_romi.policy_trainer import PolicyTrainer


class Killed(BaseException):
    """As sudden as SIGKILL: nothing of ours catches it."""


def kill(*_: Any) -> None:
    raise Killed


def terminate(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def disk_is_full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def before(owner: Any, name: str, act: Callable[..., object]) -> Iterator[None]:
    """Whoever calls a function meanwhile meets `act` first; what that raises is what it meets."""
    function = getattr(owner, name)

    def acting(*args: Any, **options: Any) -> Any:
        act(*args, **options)
        return function(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, acting)
        yield


@contextmanager
def at_update(update: int, act: Callable[[PolicyTrainer], object]) -> Iterator[None]:
    """Whoever trains meanwhile meets `act` before the given policy update, counted from 0."""

    def meet(trainer: PolicyTrainer, step: int, *, before_update: bool) -> None:
        if step == update and before_update:
            act(trainer)

    with before(PolicyTrainer, "_fire", meet):
        yield
