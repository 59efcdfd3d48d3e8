"""Shards of simulation on several processes; run as a module, it is such a process."""

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import cast

import numpy as np

from offlinerlkit_romi.standins.ant import collect_maze
from offlinerlkit_romi.standins.policies import load_actor
from offlinerlkit_romi.standins.simulate import SPECS, Array, Lanes, Shard, collect, lane_count
from offlinerlkit_romi.system.child import Child, Parent
from offlinerlkit_romi.system.machine import usable_cores

MODULE = "offlinerlkit_romi.standins.worker"
REPORT_SECONDS = 0.2

Progress = Callable[[int], object]


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


class _Reporter:
    """Sends the rows done so far, a few times a second."""

    def __init__(self, parent: Parent) -> None:
        self.parent, self.next_time = parent, 0.0

    def __call__(self, rows: int) -> None:
        if time.monotonic() >= self.next_time:
            self.next_time = time.monotonic() + REPORT_SECONDS
            self.parent.send(rows)


def run_shard(shard: Shard, report: _Reporter | None = None) -> dict[str, Array]:
    """Collect one shard in this process."""
    if shard.environment not in SPECS:
        return collect_maze(shard, report)
    lanes = Lanes(shard.environment, lane_count(shard.rows), shard.with_position)
    actor = load_actor(shard.actor, lanes.action_dim, shard.mean_share)
    return collect(lanes, actor, shard.rows, np.random.default_rng(shard.seed), report)


def main() -> None:
    """Serve the parent."""
    parent = Parent()
    while True:
        parent.send(run_shard(parent.receive(), _Reporter(parent)))


if __name__ == "__main__":
    main()
