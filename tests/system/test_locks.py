"""One holds a lock at a time; who dies holds none."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from offlinerlkit_romi.system.locks import lock_beside, locked

HOLDER = """
import sys
from pathlib import Path
from offlinerlkit_romi.system.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def refuse() -> None:
    raise RuntimeError("held elsewhere")


def test_who_comes_second_is_told_and_waits(tmp_path: Path) -> None:
    lock, told, done = tmp_path / "lock", threading.Event(), threading.Event()

    def second() -> None:
        with locked(lock, told.set):
            done.set()

    thread = threading.Thread(target=second)
    with locked(lock):
        thread.start()
        assert told.wait(30) and not done.is_set()
    assert done.wait(30)
    thread.join(30)


def test_who_does_not_want_to_wait_need_not(tmp_path: Path) -> None:
    lock, refused = tmp_path / "lock", pytest.raises(RuntimeError, match="held elsewhere")
    with locked(lock), refused, locked(lock, refuse):
        pytest.fail("held twice")
    with locked(lock, refuse):
        pass


def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(RuntimeError, match="held elsewhere"), locked(lock, refuse):
            pytest.fail("held twice")
        holder.kill()
    with locked(lock, refuse):
        pass


def test_a_lock_beside_a_file_is_no_file_of_its_kind(tmp_path: Path) -> None:
    lock = lock_beside(tmp_path / "data.hdf5")
    assert lock.parent == tmp_path and lock.name.startswith(".") and lock.suffix != ".hdf5"
