"""Runs shards of simulation on several processes and returns them in order."""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

from offlinerlkit_romi.data.lanes import Array
from offlinerlkit_romi.data.worker import Shard, send

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Progress = Callable[[int], object]


@dataclass(frozen=True)
class _Worker:
    """One child process; neither a fork of the caller nor a second run of its main module."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def run(self, shard: Shard, progress: Progress) -> dict[str, Array]:
        """Simulate one shard; `progress` hears rows as they come (increments)."""
        assert self.process.stdin is not None and self.process.stdout is not None
        done = 0
        try:
            send(self.process.stdin, shard)
            while True:
                message = pickle.load(self.process.stdout)
                rows = message if isinstance(message, int) else shard.rows
                progress(rows - done)
                done = rows
                if not isinstance(message, int):
                    return cast("dict[str, Array]", message)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise RuntimeError(f"simulation worker died: {self._last_words()}") from error

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it left no message"


@contextmanager
def _started() -> Iterator[_Worker]:
    """A worker that ends with the block."""
    environment = {**os.environ, **_ONE_THREAD}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    # a file, not a pipe: a chatty simulator must not block on a reader that is busy elsewhere
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "offlinerlkit_romi.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        try:
            yield _Worker(process, log)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # a dead child's stdin cannot be flushed
                        pipe.close()


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_shards(
    shards: Sequence[Shard], jobs: int | None, progress: Progress
) -> list[dict[str, Array]]:
    """Simulate all shards on `jobs` processes (default: one per core); results in their order."""
    count = max(1, min(jobs or usable_cores(), len(shards)))
    results: list[dict[str, Array] | None] = [None] * len(shards)
    todo: Iterator[tuple[int, Shard]] = iter(enumerate(shards))
    lock, failed = threading.Lock(), threading.Event()

    def serve(worker: _Worker) -> None:
        while not failed.is_set():
            with lock:
                item = next(todo, None)
            if item is None:
                return
            try:
                results[item[0]] = worker.run(item[1], progress)
            except BaseException:
                failed.set()
                raise

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(count))
        # workers are left first, so an interrupt here ends the children and with them the threads
        workers = [stack.enter_context(_started()) for _ in range(count)]
        for future in [threads.submit(serve, worker) for worker in workers]:
            future.result()
    return [result for result in results if result is not None]
