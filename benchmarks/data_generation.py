"""Measure how fast data sets are generated and loaded; writes results/data_generation.json.

    python benchmarks/data_generation.py [--runs 3] [--transitions 100000] [--rows 2000000]

Generation is timed from the call to the finished file, worker start included. Wall-clock figures
suffer from whatever else the machine does (see the load averages), so processor seconds, children
included, are given beside them. Loading is timed on
a gzip-compressed file of random numbers with halfcheetah's dimensions, against the row loop that
D4RL and the kit use (checked to give the same arrays).
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from short_runs import command

from offlinerlkit_romi.data.load import read_dataset
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.standins.recipes import generate
from offlinerlkit_romi.system.machine import usable_cores
from offlinerlkit_romi.utils.load_dataset import qlearning_dataset

RESULTS = Path(__file__).parent / "results" / "data_generation.json"
Arrays = dict[str, np.ndarray]


def processor_seconds() -> float:
    return sum(os.times()[:4])  # own and children's, user and system


def timed(action: Callable[[], object], runs: int) -> dict[str, list[float]]:
    wall, processor = [], []
    for _ in range(runs):
        start, start_processor = time.perf_counter(), processor_seconds()
        action()
        wall.append(round(time.perf_counter() - start, 3))
        processor.append(round(processor_seconds() - start_processor, 3))
    return {"seconds": wall, "processor_seconds": processor}


def medians(times: dict[str, list[float]]) -> dict[str, object]:
    return {**times, **{f"median_{key}": statistics.median(runs) for key, runs in times.items()}}


def generation(runs: int, transitions: int) -> dict[str, object]:
    results: dict[str, object] = {}
    for task in ("hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-medium-v2"):

        def action(task: str = task) -> None:
            generate(task, transitions, progress=False, force=True)

        times = timed(action, runs)
        results[task] = {
            **medians(times),
            "load_average_after": os.getloadavg()[0],
            "median_transitions_per_second": round(
                transitions / statistics.median(times["seconds"])
            ),
            "median_transitions_per_processor_second": round(
                transitions / statistics.median(times["processor_seconds"])
            ),
        }
    return results


def big_file(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((rows, 17), dtype=np.float32)
    arrays = {
        "observations": observations,
        "next_observations": np.roll(observations, -1, axis=0),
        "actions": np.tanh(rng.standard_normal((rows, 6), dtype=np.float32)),
        "rewards": rng.standard_normal(rows, dtype=np.float32),
        "terminals": np.zeros(rows, dtype=bool),
        "timeouts": np.arange(rows) % 1000 == 999,
    }
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, compression="gzip")


def row_loop(arrays: Arrays) -> Arrays:
    """The slow way: one row at a time."""
    keys = ("observations", "actions", "next_observations", "rewards", "terminals")
    found: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    for row in range(len(arrays["rewards"]) - 1):
        if not bool(arrays["timeouts"][row]):
            for key in keys:
                found[key].append(arrays[key][row])
    return {key: np.array(values) for key, values in found.items()}


def loading(runs: int, rows: int, folder: Path) -> dict[str, object]:
    path, task = folder / "big.hdf5", get_task("halfcheetah-medium-expert-v2")
    big_file(path, rows)
    read = timed(lambda: read_dataset(path, task, "file"), runs)
    with h5py.File(path) as file:
        h5py_only = timed(lambda: [file[key][()] for key in file], runs)
        arrays = {key: file[key][()] for key in file}
    kept: list[Arrays] = []
    fast = timed(lambda: kept.append(qlearning_dataset(None, arrays)), 1)
    slow = timed(lambda: kept.append(row_loop(arrays)), 1)
    assert all(np.array_equal(kept[0][key], kept[1][key]) for key in kept[1])
    return {
        "rows": rows,
        "data_load_of_the_gzip_file": medians(read),
        "h5py_reading_alone": medians(h5py_only),
        "qlearning_dataset_on_arrays": medians(fast),
        "row_loop_on_arrays": medians(slow),
    }


def machine() -> dict[str, object]:
    import gymnasium
    import mujoco

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "load_average_at_start": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "gymnasium": gymnasium.__version__,
        "mujoco": mujoco.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--transitions", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=2_000_000)
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "command": command(),
        "machine": machine(),
        "transitions": arguments.transitions,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OFFLINERLKIT_ROMI_DATA"] = folder
        result["generation"] = generation(arguments.runs, arguments.transitions)
        result["loading"] = loading(arguments.runs, arguments.rows, Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
