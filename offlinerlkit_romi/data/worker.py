"""Child process of `data.pool`: simulates shards until its input closes.

Run as `python -m offlinerlkit_romi.data.worker`. Messages are pickles on stdin and stdout; whatever
a simulator prints is sent to stderr, so that it cannot break into them. A process of its own keeps
BLAS on one thread (the bits of a product depend on the number) without touching the caller.
"""

import os
import pickle
import sys
import time
from dataclasses import dataclass
from typing import IO

import numpy as np

from offlinerlkit_romi.data.actors import load_actor
from offlinerlkit_romi.data.antmaze_collect import collect_maze
from offlinerlkit_romi.data.lanes import SPECS, Array, Lanes, collect, lane_count

REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Shard:
    """One independent piece of work: its result depends on these fields and on nothing else.

    Attributes:
        environment: Which simulator, a key of `lanes.SPECS`, or an AntMaze task.
        actor: Which policy, see `actors.load_actor`.
        rows: Transitions at least.
        seed: Of everything drawn.
        with_position: Observe the x position too (the policy does not see it).
        mean_share: Share of the steps at which the policy's mean action is taken.
    """

    environment: str
    actor: str
    rows: int
    seed: tuple[int, ...]
    with_position: bool = False
    mean_share: float = 0.0


class _Reporter:
    """Sends the rows done so far, a few times a second."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.next_time = out, 0.0

    def __call__(self, rows: int) -> None:
        if time.monotonic() >= self.next_time:
            self.next_time = time.monotonic() + REPORT_SECONDS
            send(self.out, rows)


def send(out: IO[bytes], message: object) -> None:
    """Write one message."""
    pickle.dump(message, out, protocol=pickle.HIGHEST_PROTOCOL)
    out.flush()


def run_shard(shard: Shard, report: _Reporter | None = None) -> dict[str, Array]:
    """Collect one shard in this process."""
    if shard.environment not in SPECS:
        return collect_maze(shard, report)
    lanes = Lanes(shard.environment, lane_count(shard.rows), shard.with_position)
    actor = load_actor(shard.actor, lanes.action_dim, shard.mean_share)
    return collect(lanes, actor, shard.rows, np.random.default_rng(shard.seed), report)


def main() -> None:
    """Serve shards from stdin until it closes."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            shard = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        send(out, run_shard(shard, _Reporter(out)))


if __name__ == "__main__":
    main()
