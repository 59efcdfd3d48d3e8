"""A child answers, says how it ended, and never outlives its parent."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from offlinerlkit_romi.system.child import Child
from tests.support.processes import assert_gone

MODULE = "tests.system.answering"
GONE = (EOFError, OSError, pickle.UnpicklingError)
ORPHAN = f"""
from offlinerlkit_romi.system.child import Child
child = Child({MODULE!r})
child.send("work")
child.receive()
print(child.pid, flush=True)
input()
"""


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(MODULE) as started:
        yield started
    assert_gone(started.pid)


def ask(child: Child, question: object) -> object:
    child.send(question)
    return child.receive()


def test_messages_come_back_whatever_else_the_child_prints(child: Child) -> None:
    message = {"rows": b"\x00" * 100_000, "seed": (1, 2)}
    assert ask(child, message) == message
    assert ask(child, "print") == "printed"
    assert ask(child, message) == message


def test_a_child_computes_on_one_thread_and_sees_no_gpu(child: Child) -> None:
    assert ask(child, "threads") == ["1", ""]


@pytest.mark.parametrize(
    ("question", "words"),
    [("fail", "ValueError: because of the test"), ("leave", "status 7")],
)
def test_a_dead_childs_last_words_say_how_it_ended(
    child: Child, question: object, words: str
) -> None:
    child.send(question)
    with pytest.raises(GONE):
        child.receive()
    assert child.last_words() == words


def test_a_message_that_cannot_be_read_ends_the_child_with_the_reason(child: Child) -> None:
    child._inward.write(b"no pickle.")
    child._inward.flush()
    with pytest.raises(GONE):
        child.receive()
    assert "UnpicklingError" in child.last_words()


@pytest.mark.parametrize(
    ("reason", "words"), [("no answer in time", "no answer in time"), ("", "signal 9")]
)
def test_who_waits_for_a_killed_child_hears_of_it(child: Child, reason: str, words: str) -> None:
    assert ask(child, "work") == "begun"
    child.kill(reason)
    with pytest.raises(GONE):
        child.receive()
    assert child.last_words() == words


def test_signals_meant_for_the_parent_do_not_end_a_child(child: Child) -> None:
    assert ask(child, 1) == 1
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGTERM)
    assert ask(child, 2) == 2


def test_the_parents_own_signals_are_as_before() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with Child(MODULE):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_at_work_ends_with_its_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
        assert parent.wait(30) == -number
    assert_gone(pid)
