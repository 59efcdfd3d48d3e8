"""What a corrected step of ROMBRL's leader costs beside a plain one, in one run.

`python benchmarks/rombrl_leader_step.py --out benchmarks/results/rombrl_leader_step.json`: the
default preset's sizes (S 17, A 6, 7 x 4 x 200, 256 of 2500 trajectories of 10 steps), one thread,
the kinds in turn.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from short_runs import making

from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.policy.model_based.leader_follower import Stakes


def seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=30)
    told = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    task = get_task("walker2d-medium-v2")
    pieces = OurPieces(Workload(task, torch.device("cpu"), rows=20_000))
    policy, buffers, config = pieces.made("rombrl")
    real = buffers.for_model.rows
    data, _ = policy.play(real)
    kkt = policy._stakes(data, real)
    at_stake = {
        "plain": None,
        "stackelberg": Stakes(kkt.directions[:1], [], kkt.gap, kkt.multiplier),
        "kkt": kkt,
    }
    rows = torch.arange(config.leader_batch)
    times: dict[str, list[float]] = {name: [] for name in at_stake}
    for _ in range(told.repeats + 2):
        for name, stakes in at_stake.items():
            step = seconds(lambda s=stakes: policy._leader_step(data, rows, s, real))
            times[name].append(1000 * step)
    once = 1000 * min(seconds(lambda: policy._stakes(data, real)) for _ in range(3))
    # the first two of each warm up
    ms = {name: statistics.median(values[2:]) for name, values in times.items()}
    steps = config.leader_epochs * -(-config.trajectories // config.leader_batch)
    report = making("cpu", load) | {
        "sizes": {
            "S": task.obs_dim,
            "A": task.action_dim,
            "model": [config.n_ensemble, *config.dynamics_hidden_dims],
            "trajectories_and_steps": [config.trajectories, config.trajectory_length],
            "leader_batch": config.leader_batch,
            "curvature_rows": [
                config.curvature_trajectories * config.model_horizon,
                config.curvature_rows,
            ],
        },
        "threads": 1,
        "repeats": told.repeats,
        "step_ms": {name: round(value, 2) for name, value in ms.items()},
        "step_over_plain": {name: round(value / ms["plain"], 2) for name, value in ms.items()},
        "gradients_of_the_whole_model_once_per_round_ms": round(once, 1),
        "steps_per_round": steps,
        "kkt_round_over_plain_round": round((steps * ms["kkt"] + once) / (steps * ms["plain"]), 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    told.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
