"""Run folders, made by hand or read back."""

import csv
import json
from pathlib import Path

import numpy as np

from offlinerlkit_romi.experiment.folder import MANIFEST, PROGRESS, SUMMARY, describe_config
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS
from tests.experiment.conftest import TASK, TINY_SETTINGS

SHA = "a" * 64


def read_json(path):
    return json.loads(Path(path).read_text())


def rows_of(run_dir, name=PROGRESS):
    """A run's curve as it is written: text by column, a row per epoch."""
    with (Path(run_dir) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def make_run(
    root,
    algo,
    seed,
    scores,
    *,
    status="finished",
    data=None,
    versions=None,
    fit=None,
    scale="score",
    task=TASK,
    columns=None,
    facts=None,
    **settings,
):
    """Write a run's papers, its curve of one score per 100 steps and, if finished, its summary.

    `columns` of the curve by name, `facts` of the manifest.
    """
    own = {"seed": seed, "log_root": str(root), "task": task}
    resolved = settle(algo, TINY_SETTINGS[algo] | own | settings)
    folder = root / task / f"{algo}&data=generated" / f"seed_{seed}"
    while folder.exists():
        folder = folder.with_name(folder.name + "-1")
    for name in ("record", "result"):
        (folder / name).mkdir(parents=True)
    manifest = {
        "algo": algo,
        "task": task,
        "seed": seed,
        "data": {
            "source": "generated",
            "sha256": SHA,
            "env_version": "HalfCheetah-v4",
            "transitions": 400,
            "behaviour_return": 2000.0,
            "path": "/home/somebody/file.hdf5",
        }
        | (data or {}),
        "versions": {"gymnasium": "1.0", "mujoco": "3.3"} | (versions or {}),
        "machine": {"cpu": "a CPU", "device_name": "a CPU", "threads": 1, "device": "cpu"},
        "config": describe_config(resolved),
        "dynamics_fit": fit,
        **(facts or {}),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    if columns is None:
        known = [10.0 * seed + n for n in range(1, len(scores) + 1)]
        columns = {"q/real": known, "q/model": [""] * len(scores)}
    names = ["timestep", SCORE_COLUMNS[scale], *columns]
    with (folder / PROGRESS).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for place, (score, *values) in enumerate(zip(scores, *columns.values(), strict=True), 1):
            writer.writerow([100 * place, score, *values])
    if status == "finished":
        ends = {"last10_mean": np.mean(scores[-10:]), "last": scores[-1], "best": max(scores)}
        ends = {name: float(x) for name, x in ends.items()}
        summary = {
            **{"algo": algo, "task": task, "data_source": "generated", "seed": seed},
            "steps": 100 * len(scores),
            **({f"score_{name}": x for name, x in ends.items()} if scale == "score" else {}),
            "returns": {} if scale == "score" else ends,
            "wall_seconds": 60.0 * (seed + 1),
            "ms_per_policy_step": 5.0,
            "ms_per_rollout": 2.0,
            "ms_per_model_update": None,
            "run_dir": str(folder),
        }
        (folder / SUMMARY).write_text(json.dumps(summary))
    if status == "diverged":
        (folder / "result" / "diagnosis.json").write_text(json.dumps({"stopped": True}))
    return folder
