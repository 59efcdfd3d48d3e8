"""How long several seeds take side by side, against one after the other.

    python benchmarks/seeds.py --out NAME.json

Trains the same short runs first one by one with `--threads 1` and with torch's own number of
threads, then side by side, in one process. Exits with 1 if a seed's scores differ from those of
its run alone with one thread.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from short_runs import SMALL, TRANSITIONS, making

from offlinerlkit_romi.experiment.run import train

OWN = {"romi": {"dynamics_max_epochs": 1, "dynamics_cache": "off"}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", default="iql", choices=list(SMALL))
    parser.add_argument("--task", default="hopper-medium-v2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epoch", type=int, default=1)
    parser.add_argument("--step-per-epoch", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    own, load = torch.get_num_threads(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "task": chosen.task,
            "data": "generated",
            "transitions": TRANSITIONS,
            "epoch": chosen.epoch,
            "step_per_epoch": chosen.step_per_epoch,
            "eval_episodes": 1,
            "eval_async": False,
            "checkpoint_freq": 0,
            "device": chosen.device,
            "log_root": folder,
            **SMALL[chosen.algo],
            **OWN.get(chosen.algo, {}),
        }
        train(chosen.algo, **settings | {"epoch": 1, "step_per_epoch": 1})  # data, imports
        seconds, alone = {}, {}
        for name, threads in (("one_by_one_own_threads", own), ("one_by_one_one_thread", 1)):
            start = time.perf_counter()
            for seed in chosen.seeds:
                summary = train(chosen.algo, seed=seed, threads=threads, **settings)
                alone[seed] = summary.score_last
            seconds[name] = time.perf_counter() - start
        start = time.perf_counter()
        result = train(chosen.algo, seeds=chosen.seeds, **settings)
        seconds["side_by_side"] = time.perf_counter() - start
    together = {seed: summary.score_last for seed, summary in result.summaries.items()}
    report = {
        "algo": chosen.algo,
        "task": f"{chosen.task}, generated data",
        "seeds": chosen.seeds,
        "policy_steps_each": chosen.epoch * chosen.step_per_epoch,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "times_one_seed": round(
            seconds["side_by_side"] / seconds["one_by_one_one_thread"] * len(chosen.seeds), 2
        ),
        "same_scores_as_alone_with_one_thread": together == alone,
        "own_threads": own,
        **making(chosen.device, load),
    }
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(together != alone)


if __name__ == "__main__":
    sys.exit(main())
