"""Gather finished or running runs into one table, one figure and one record of how they were made.

    python run_example/reproduce/collect.py --out docs/results/NAME --bound 340 LABEL=RUN_DIR ...

Writes NAME.csv (curves of every run), NAME.json (settings, data source, versions, times) and
NAME.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

COLUMNS = {
    "timestep": "steps",
    "eval/normalized_episode_reward": "score",
    "q/real": "q_real",
    "q/model": "q_model",
    "alpha": "alpha",
    "entropy": "entropy",
    "rollout_info/reward_mean": "model_reward",
    "romi/outer_loss": "outer_loss",
    "romi/inner_grad_norm": "inner_grad_norm",
    "romi/outer_grad_norm": "outer_grad_norm",
    "romi/weight_mean": "weight_mean",
    "romi/weight_at_bounds": "weight_at_bounds",
    "adv_dynamics_update/all_loss": "rambo_all_loss",
    "adv_dynamics_update/adv_loss": "rambo_adv_loss",
    "adv_dynamics_update/sl_loss": "rambo_sl_loss",
    "model/prediction_error_1": "prediction_error_1",
}


def read_curve(label: str, run_dir: Path) -> pd.DataFrame:
    """A run's progress file, its columns renamed, one row per epoch."""
    table = pd.read_csv(run_dir / "record" / "policy_training_progress.csv")
    kept = table[[name for name in COLUMNS if name in table]].rename(columns=COLUMNS)
    kept.insert(0, "run", label)
    # a run that has not reached its first evaluation yet
    return kept if "score" in kept else kept.assign(score=float("nan"))


def read_record(run_dir: Path) -> dict:
    """What a reader needs to judge or repeat a run; of this machine's paths only the last part."""
    manifest = _without_folders(json.loads((run_dir / "record" / "manifest.json").read_text()))
    config = _without_folders(json.loads((run_dir / "record" / "config.json").read_text()))
    summary = run_dir / "result" / "summary.json"
    record = {"manifest": manifest, "config": config}
    if summary.exists():
        record["summary"] = json.loads(summary.read_text())
        record["summary"].pop("run_dir", None)
    return record


def _without_folders(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return value


def draw(curves: pd.DataFrame, bound: float | None, path: Path) -> None:
    """Scores above, mean Q below, one line per run."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for label, curve in curves.groupby("run", sort=False):
        scored = curve.dropna(subset="score")
        axes[0].plot(scored.steps, scored.score, marker=".", label=label)
        axes[1].plot(curve.steps, curve.q_model, label=label)
    if bound is not None:
        axes[1].axhline(bound, color="black", linestyle="--", label="largest reward / (1 - gamma)")
    if curves.q_model.max() > 1000:
        axes[1].set_yscale("symlog", linthresh=100)
    axes[1].set_ylim(bottom=0)
    for axis, name in zip(axes, ("normalised score", "mean Q on model rows"), strict=True):
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    axes[1].set_xlabel("policy steps")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--bound", type=float, help="a line in the Q panel")
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUN_DIR")
    chosen = parser.parse_args()
    runs = {label: Path(folder) for label, _, folder in (run.partition("=") for run in chosen.runs)}
    curves = pd.concat([read_curve(label, folder) for label, folder in runs.items()])
    curves.to_csv(chosen.out.with_suffix(".csv"), index=False, float_format="%.6g")
    records = {label: read_record(folder) for label, folder in runs.items()}
    chosen.out.with_suffix(".json").write_text(json.dumps(records, indent=1) + "\n")
    draw(curves, chosen.bound, chosen.out.with_suffix(".png"))
    print(curves.groupby("run", sort=False).tail(1).to_string(index=False))


if __name__ == "__main__":
    main()
