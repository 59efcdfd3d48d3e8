"""A process of its own that is asked questions: neither a fork nor a second run of the main module.

It shares nothing with the caller: no CUDA context, no threads, no state. Its BLAS keeps to one
thread, because the last bits of a product depend on the number. Messages are pickles on its stdin
and stdout, between a process and its own child; whatever else it prints goes to its log.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

REAP_SECONDS = 5.0
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "CUDA_VISIBLE_DEVICES": "",
}


class Child:
    """A child process and the way to it; a context manager that ends it.

    Args:
        module: What it runs, as `python -m` does: a module whose `main` uses `Parent`.
    """

    def __init__(self, module: str) -> None:
        environment = {**os.environ, **_ENVIRONMENT}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._reason = ""
        # a file, not a pipe: a chatty simulator must not block on a reader that is busy elsewhere
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        with _signals_kept_from_children():
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._inward, self._outward = self._process.stdin, self._process.stdout
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def send(self, message: object) -> None:
        """Give it something.

        Raises:
            OSError: It is gone.
        """
        _write(self._inward, message)

    def receive(self) -> Any:
        """Wait for what it says next.

        Raises:
            EOFError, pickle.UnpicklingError: It is gone.
        """
        return pickle.load(self._outward)

    def kill(self, reason: str = "") -> None:
        """End it at once, from any thread; who waits for an answer hears of it.

        Args:
            reason: What `last_words` then says.
        """
        self._reason = reason
        self._process.kill()

    def last_words(self) -> str:
        """How it ended: the reason it was killed for, the signal, its last line or its status."""
        try:
            status = self._process.wait(REAP_SECONDS)  # its pipe closes before it is gone
        except subprocess.TimeoutExpired:
            return ""
        if self._reason:
            return self._reason
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"signal {-status}" if status < 0 else lines[-1] if lines else f"status {status}"

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._inward, self._outward, self._log):
            with suppress(OSError):  # a dead child's stdin cannot be flushed
                pipe.close()


class Parent:
    """The child's side. The process ends when its parent closes the way or dies, whatever it does.

    From now on what this process prints goes to its log.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        # not sys.stdin, which an ending interpreter cannot close while another thread reads it
        self._in = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """Wait for what the parent sends next."""
        return self._messages.get()

    def send(self, message: object) -> None:
        """Say something."""
        _write(self._out, message)

    def _listen(self) -> None:
        """Read ahead, so that the parent's end is noticed in the midst of the work."""
        while True:
            try:
                self._messages.put(pickle.load(self._in))
            except EOFError:
                os._exit(0)
            except BaseException:  # a message that cannot be read: nothing to do without it
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                os._exit(1)


def _write(out: IO[bytes], message: object) -> None:
    pickle.dump(message, out, protocol=pickle.HIGHEST_PROTOCOL)
    out.flush()


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Ctrl-C and SIGTERM, which may go to a whole group, are for the parent: it ends its children.

    A process started here inherits the mask.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
