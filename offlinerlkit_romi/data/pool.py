"""Runs shards of simulation on several processes and returns them in order."""

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import cast

from offlinerlkit_romi.data.lanes import Array
from offlinerlkit_romi.data.worker import Shard
from offlinerlkit_romi.system.child import Child
from offlinerlkit_romi.system.machine import usable_cores

MODULE = "offlinerlkit_romi.data.worker"

Progress = Callable[[int], object]


def _ask(child: Child, shard: Shard, progress: Progress) -> dict[str, Array]:
    """Have one shard simulated; `progress` hears rows as they come (increments)."""
    done = 0
    try:
        child.send(shard)
        while True:
            message = child.receive()
            rows = message if isinstance(message, int) else shard.rows
            progress(rows - done)
            done = rows
            if not isinstance(message, int):
                return cast("dict[str, Array]", message)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"simulation worker died: {child.last_words()}") from error


def run_shards(
    shards: Sequence[Shard], jobs: int | None, progress: Progress
) -> list[dict[str, Array]]:
    """Simulate all shards on `jobs` processes (default: one per core); results in their order."""
    count = max(1, min(jobs or usable_cores(), len(shards)))
    results: list[dict[str, Array] | None] = [None] * len(shards)
    todo: Iterator[tuple[int, Shard]] = iter(enumerate(shards))
    lock, failed = threading.Lock(), threading.Event()

    def serve(child: Child) -> None:
        while not failed.is_set():
            with lock:
                item = next(todo, None)
            if item is None:
                return
            try:
                results[item[0]] = _ask(child, item[1], progress)
            except BaseException:
                failed.set()
                raise

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(count))
        # children are left first, so an interrupt here ends them and with them the threads
        children = [stack.enter_context(Child(MODULE)) for _ in range(count)]
        for future in [threads.submit(serve, child) for child in children]:
            future.result()
    return [result for result in results if result is not None]
