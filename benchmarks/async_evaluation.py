"""How much of training is spent waiting for evaluation, without and with a worker process.

    OMP_NUM_THREADS=1 python benchmarks/async_evaluation.py --out NAME.json

Trains the same short runs with `--no-eval-async` and `--eval-async` in turn, in one process, and
compares the seconds inside `trainer.train()` and those of them spent waiting. Exits with 1 if the
scores of the two differ in one bit.
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
from offlinerlkit_romi.policy_trainer import PolicyTrainer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algos", nargs="+", default=list(SMALL), choices=list(SMALL))
    parser.add_argument("--task", default="hopper-medium-v2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epoch", type=int, default=4)
    parser.add_argument("--step-per-epoch", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        table = {algo: compare(algo, chosen, folder) for algo in chosen.algos}
    report = {
        "task": f"{chosen.task}, generated data",
        "epochs": chosen.epoch,
        "step_per_epoch": chosen.step_per_epoch,
        "runs": table,
        "settings": {algo: SMALL[algo] for algo in chosen.algos},
        "threads": torch.get_num_threads(),
        **making(chosen.device, load),
    }
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(not all(row["same_scores"] for row in table.values()))


def compare(algo: str, chosen: argparse.Namespace, folder: str) -> dict[str, object]:
    """Both modes in turn; seconds are sums over the repeats."""
    seen = {mode: {"train": 0.0, "waiting": 0.0, "scores": []} for mode in (False, True)}
    for _ in range(chosen.repeats):
        for mode, sums in seen.items():
            timed = timed_run(algo, chosen, folder, mode)
            sums["train"] += timed["train"]
            sums["waiting"] += timed["waiting"]
            sums["scores"].append(timed["scores"])
    between, beside = seen[False], seen[True]
    return {
        "share_waiting_without_worker": round(between["waiting"] / between["train"], 4),
        "share_waiting_with_worker": round(beside["waiting"] / beside["train"], 4),
        "seconds_without_worker": round(between["train"], 1),
        "seconds_with_worker": round(beside["train"], 1),
        "speedup": round(between["train"] / beside["train"], 2),
        "same_scores": between["scores"] == beside["scores"],
    }


def timed_run(
    algo: str, chosen: argparse.Namespace, folder: str, in_worker: bool
) -> dict[str, object]:
    found: dict[str, object] = {}
    whole = PolicyTrainer.train

    def timed(trainer: PolicyTrainer) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return whole(trainer)
        finally:
            found["train"] = time.perf_counter() - start
            found["waiting"] = trainer.timer.state_dict()["totals"]["evaluation"][0]
            found["scores"] = [scores.mean for _, scores in trainer.history]

    PolicyTrainer.train = timed
    try:
        train(
            algo,
            task=chosen.task,
            data="generated",
            transitions=TRANSITIONS,
            epoch=chosen.epoch,
            step_per_epoch=chosen.step_per_epoch,
            device=chosen.device,
            eval_async=in_worker,
            log_root=folder,
            checkpoint_freq=0,
            **SMALL[algo],
        )
    finally:
        PolicyTrainer.train = whole
    return found


if __name__ == "__main__":
    sys.exit(main())
