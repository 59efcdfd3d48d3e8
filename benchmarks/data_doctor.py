"""Measure the data doctor's quick checks, as they run before training.

    python benchmarks/data_doctor.py [--rows 2000000] [--runs 3]

Writes results/data_doctor.json. The rows are simulated ones, repeated with slightly scaled actions
so that no row repeats another. Wall-clock seconds suffer from whatever else the machine does (see
the load averages); processor seconds of this process stand beside them.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
from short_runs import command

from offlinerlkit_romi.data.card import card_of
from offlinerlkit_romi.data.doctor import diagnose
from offlinerlkit_romi.data.doctor.starts import claimed
from offlinerlkit_romi.data.load import read_source
from offlinerlkit_romi.data.rows import Rows
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.standins.recipes import generate

RESULTS = Path(__file__).parent / "results" / "data_doctor.json"
TASKS = ("hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-medium-v2")
SIMULATED = 20_000
COLUMNS = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")


def repeated(task: str, rows: int) -> Rows:
    """Simulated rows of `task` until there are `rows`; each copy ends with a time limit."""
    data = read_source(card_of(generate(task, SIMULATED, progress=False)))
    copies = -(-rows // len(data))
    columns = {key: np.concatenate([data.columns[key]] * copies) for key in COLUMNS}
    last = np.arange(1, copies + 1) * len(data) - 1
    columns["timeouts"][last] = ~columns["terminals"][last]
    scale = 1.0 - 1e-4 * np.repeat(np.arange(copies), len(data))
    columns["actions"] *= scale[:, None].astype(np.float32)
    taken = data.with_columns(**columns, **dict.fromkeys(set(data.columns) - set(COLUMNS)))
    return claimed(taken.take(np.arange(rows)), get_task(task))


def measure(task: str, rows: int, runs: int) -> dict[str, object]:
    wall, processor, load = [], [], []
    for _ in range(runs):
        records = repeated(task, rows)  # anew: what one run worked out must not help the next
        load.append(round(os.getloadavg()[0], 2))
        start, start_processor = time.perf_counter(), time.process_time()
        found = diagnose(records)
        wall.append(round(time.perf_counter() - start, 3))
        processor.append(round(time.process_time() - start_processor, 3))
    return {
        "rows": rows,
        "columns": int(records.observations.shape[1] + records.actions.shape[1]),
        "findings": found.lines(),
        "seconds": wall,
        "processor_seconds": processor,
        "median_seconds": statistics.median(wall),
        "median_processor_seconds": statistics.median(processor),
        "load_average": load,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    results = {
        "command": command(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "tasks": {task: measure(task, chosen.rows, chosen.runs) for task in TASKS},
    }
    chosen.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
