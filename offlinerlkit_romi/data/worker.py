"""Child process of `data.pool`: simulates shards until its parent has no more.

Run as `python -m offlinerlkit_romi.data.worker`.
"""

import time
from dataclasses import dataclass

import numpy as np

from offlinerlkit_romi.data.actors import load_actor
from offlinerlkit_romi.data.antmaze_collect import collect_maze
from offlinerlkit_romi.data.lanes import SPECS, Array, Lanes, collect, lane_count
from offlinerlkit_romi.system.child import Parent

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
