"""Small stand-ins for D4RL's AntMaze files: its format, a scripted ant in the same mazes."""

from pathlib import Path

import numpy as np

from offlinerlkit_romi.data.generate import (
    SHARD_ROWS,
    Part,
    generated_path,
    make_once,
    metadata_of,
    run_with_bar,
    write_hdf5,
)
from offlinerlkit_romi.data.worker import Shard

SCRIPT = "a scripted gait sent from cell to cell"


def generate_antmaze(
    task: str,
    transitions: int = 200_000,
    seed: int = 0,
    *,
    jobs: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Make the data set unless it is cached, and return its file.

    Args:
        task: The task's name.
        transitions: Exact number of rows.
        seed: Equal seeds give equal bytes, whatever `jobs` is.
        jobs: Processes; default one per core.
        progress: Show a progress bar on stderr.
        force: Make it again even if it is cached.

    Raises:
        UserError: gymnasium-robotics is missing, impossible numbers, a folder that cannot be
            written, or a full disk.
    """
    from offlinerlkit_romi.envs import family_of, get_task

    facts = get_task(task)
    family_of(facts).require()  # here, where it is one line, and not in a worker
    path = generated_path(task, transitions, seed)

    def make() -> None:
        count = -(-transitions // SHARD_ROWS)
        edges = np.linspace(0, transitions, count + 1).round().astype(int)
        shards = [
            Shard(task, SCRIPT, rows, (seed, number))
            for number, rows in enumerate(np.diff(edges).tolist())
        ]
        pieces = run_with_bar(task, shards, jobs, progress)
        arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
        parts = [Part(SCRIPT, transitions)]
        write_hdf5(path, arrays, metadata_of(task, facts.env_id, parts, seed))

    return make_once(path, transitions, seed, force, make)
