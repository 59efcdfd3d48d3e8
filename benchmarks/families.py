"""One small run of ROMI, RAMBO and IQL per family of tasks, from generated data to a score.

It shows that each family's whole path runs; schedules are far too short to rank anything.
`python benchmarks/families.py` writes docs/results/families.json.
"""

import argparse
import json
import tempfile
from pathlib import Path

import offlinerlkit_romi
from offlinerlkit_romi.engine.device import machine, resolve_device
from offlinerlkit_romi.system.machine import versions

TASKS = ("hopper-medium-v2", "antmaze-umaze-v2", "Hopper-v3-low")
SHARED = {
    "data": "generated",
    "transitions": 6000,
    "epoch": 2,
    "step_per_epoch": 150,
    "eval_episodes": 2,
    "device": "cpu",
    "threads": 1,
}
MODEL = {
    "dynamics_hidden_dims": (64, 64),
    "dynamics_weight_decay": (2.5e-5, 5e-5, 1e-4),
    "dynamics_max_epochs": 3,
    "dynamics_early_stop": False,
    "dynamics_lr": 1e-3,
    "rollout_freq": 75,
    "rollout_batch_size": 1000,
    "adv_train_steps": 20,
    "bc_epoch": 0,
}
SETTINGS = {"romi": SHARED | MODEL, "rambo": SHARED | MODEL, "iql": SHARED}
KEPT = ("score_first", "score_last", "score_behaviour", "steps", "wall_seconds")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/families.json"))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--algos", nargs="+", default=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=SHARED["step_per_epoch"], help="per epoch")
    chosen, rows = parser.parse_args(), []
    about = {"versions": versions(), "machine": machine(resolve_device("cpu"))}
    for task in chosen.tasks:
        for algo in chosen.algos:
            settings = SETTINGS[algo] | {"step_per_epoch": chosen.steps}
            with tempfile.TemporaryDirectory() as folder:
                summary = offlinerlkit_romi.train(algo, task=task, log_root=folder, **settings)
                manifest = json.loads((Path(summary.run_dir) / "record/manifest.json").read_text())
            values = {key: getattr(summary, key) for key in KEPT if hasattr(summary, key)}
            data = {key: manifest["data"][key] for key in ("source", "sha256", "transitions")}
            rows.append({"task": task, "algo": algo, **values, "data": data})
            report = about | {"settings": SETTINGS, "runs": rows}
            chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
