"""The study's runs, finished or running, into docs/results/study/runs.csv and arms.json.

    python benchmarks/study/collect.py log

A run that is there already (task, arm, seed) gives way. An arm is called by its --algo-name, by
which `ASKED` tells the questions that it answers.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from offlinerlkit_romi.envs import normalized_score
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.runs import load_runs

STUDY = Path(__file__).parents[2] / "docs" / "results" / "study"
FACTS = ["question", "task", "arm", "seed", "status", "timestep"]
ERRORS = [f"model_error_{step}" for step in range(1, 11)]
# of several the first that a run has
COLUMNS = {
    "score": ["eval/normalized_episode_reward"],
    "score_std": ["eval/normalized_episode_reward_std"],
    "q_real": ["q/real"],
    "q_model": ["q/model"],
    "alpha": ["alpha"],
    "critic_loss": ["loss/critic1"],
    "gradient": ["romi/outer_grad_norm", "gradient/dynamics_adv_optim"],
    "weight_mean": ["romi/weight_mean"],
    "weight_at_bounds": ["romi/weight_at_bounds"],
    "weight_ess": ["romi/weight_ess"],
    **{name: [name.replace("model_error", "model/prediction_error")] for name in ERRORS},
}
# the first that an arm's name fits; "S 5" is two questions
ASKED = {
    "*oracle*": "S 1 2 4 5 7",
    "bc": "1 2 4 5 7",
    "*+fit*": "1 5",
    "*+rows*": "1",
    "*+H*": "S 2",
    "*+K*": "2",
    "*+real*": "2",
    "*+w*": "4",
    "*+xi*": "4",
    "*no_weighting*": "4",
    "*release*": "4 5",
    "*joint*": "7",
    "romi": "1 2 4 5 7",
    "rambo": "2 4 5",
    "mopo": "1 5",
    "*": "5",
}
# what a run is called and where it lay, not what it was
PLACES = {"--task", "--seed", "--seeds", "--log-root", "--dynamics-cache", "--algo-name"}
Arms = dict[str, dict[str, Any]]  # by "task/arm"


def collect(places: Sequence[str], folder: Path, question: str = "", schedule: str = "") -> None:
    """Add runs; without a schedule an arm keeps that which it has."""
    frame = load_runs(places)
    rows, arms = read(folder)
    ends = frame.groupby("run_dir", sort=False).timestep.max()
    for run_dir in ends.sort_values(kind="stable").index:  # of several the furthest stays
        curve = frame[frame.run_dir == run_dir]
        task, arm, seed, status = (
            curve.iloc[0][name] for name in ("task", "label", "seed", "status")
        )
        about = describe(RunFolder(run_dir)) | {"questions": question or asked(arm)}
        about["schedule"] = schedule or arms.get(f"{task}/{arm}", {"schedule": ""})["schedule"]
        arms[f"{task}/{arm}"] = about
        names = {"task": task, "arm": arm, "seed": seed, "status": status}
        own = (rows.task == task) & (rows.arm == arm)
        rows = pd.concat([rows[~(own & (rows.seed == seed))], columns_of(curve).assign(**names)])
        rows.loc[(rows.task == task) & (rows.arm == arm), "question"] = about["questions"]
    write(folder, rows, arms)


def asked(arm: str) -> str:
    """The questions that an arm answers."""
    return next(told for name, told in ASKED.items() if fnmatch(arm, name))


def columns_of(curve: pd.DataFrame) -> pd.DataFrame:
    """A run's curve under the study's names."""
    found = {"timestep": curve.timestep}
    for name, sources in COLUMNS.items():
        known = [curve[source] for source in sources if source in curve]
        found[name] = next((values for values in known if values.notna().any()), float("nan"))
    return pd.DataFrame(found)


def describe(run: RunFolder) -> dict[str, Any]:
    """What an arm is, without where its runs lay."""
    manifest, config = run.manifest, run.resolved.config
    data, machine = manifest["data"], manifest["machine"]
    oracle = getattr(config, "dynamics", "") == "oracle"
    score = normalized_score(data["behaviour_return"], manifest["task"])
    return {
        "algorithm": run.resolved.algo,
        "role": "ceiling" if oracle else "floor" if run.resolved.algo == "bc" else "",
        "command": shlex.join(without_places(manifest["argv"][1:])),
        "rollout_length": getattr(config, "rollout_length", None),
        "commit": str(manifest["versions"].get("git_commit") or "")[:7],
        "hardware": f"{machine['cpu']}, {machine['threads']} thread(s), {machine['device']}",
        "data": {k: data[k] for k in ("source", "transitions", "sha256")} | {"score": float(score)},
    }


def without_places(words: Sequence[str]) -> list[str]:
    """The words of a command, less the options in `PLACES`."""
    kept, skipping = [], False
    for word in words:
        skipping = word in PLACES or (skipping and not word.startswith("--"))
        if not skipping:
            kept.append(word)
    return kept


def read(folder: Path) -> tuple[pd.DataFrame, Arms]:
    """The committed runs and arms."""
    if not (folder / "runs.csv").exists():
        return pd.DataFrame(columns=[*FACTS, *COLUMNS]), {}
    text = dict.fromkeys(("question", "task", "arm", "status"), str)
    rows = pd.read_csv(folder / "runs.csv", dtype=text)
    return rows, json.loads((folder / "arms.json").read_text("utf-8"))


def write(folder: Path, rows: pd.DataFrame, arms: Arms) -> None:
    """In an order that does not depend on when a run was added."""
    ordered = rows.sort_values(["task", "arm", "seed", "timestep"], kind="stable")
    ordered = ordered.astype({"seed": int, "timestep": int, **dict.fromkeys(COLUMNS, float)})
    told = ordered[[*FACTS, *COLUMNS]].to_csv(index=False, float_format="%.5g")
    (folder / "runs.csv").write_text(told, "utf-8")
    (folder / "arms.json").write_text(json.dumps(arms, indent=1, sort_keys=True) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", nargs="+", help="folders that hold runs")
    parser.add_argument("--question", default="", help="which they answer, if not by name")
    parser.add_argument("--schedule", default="", help="tells arms of a task apart")
    parser.add_argument("--out", type=Path, default=STUDY, help="folder of runs.csv")
    told = parser.parse_args()
    collect(told.places, told.out, told.question, told.schedule)


if __name__ == "__main__":
    main()
