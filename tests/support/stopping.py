"""Runs that are met in the midst of an update, and stopped there."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from offlinerlkit_romi.policy_trainer import PolicyTrainer


class Killed(BaseException):
    """As sudden as SIGKILL: nothing of ours catches it."""


def kill(_: Any = None) -> None:
    raise Killed


def terminate(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def at_update(update: int, act: Callable[[PolicyTrainer], object]) -> Iterator[None]:
    """Whoever trains meanwhile meets `act` before the given policy update, counted from 0."""
    fire = PolicyTrainer._fire

    def acting(self: PolicyTrainer, step: int, *, before_update: bool) -> None:
        if step == update and before_update:
            act(self)
        fire(self, step, before_update=before_update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PolicyTrainer, "_fire", acting)
        yield
