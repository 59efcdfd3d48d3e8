"""What the scripts beside this one share: an experiment is a sweep, its report, and its table.

docs/reproduce.md says how they are used.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from offlinerlkit_romi import cli
from offlinerlkit_romi.experiment.config import hints
from offlinerlkit_romi.experiment.report.gather import gather
from offlinerlkit_romi.experiment.report.scores import printed, publications
from offlinerlkit_romi.experiment.resolve import config_type_of
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.experiment.statistics import mean_and_std
from offlinerlkit_romi.experiment.sweep.plan import Plan, Trial, read_plan
from offlinerlkit_romi.utils.text import markdown, number, plus_minus

HERE = Path(__file__).parent
# those of the paper's numbers that the package's published.yaml has no place for
PAPER: dict[str, Any] = yaml.safe_load((HERE / "paper.yaml").read_text("utf-8"))
REPLAY = tuple(f"{robot}-medium-replay-v2" for robot in ("halfcheetah", "hopper", "walker2d"))
# every path of a run in seconds; what comes out is no result
QUICK = {
    **{"preset": "quick", "data": "generated", "transitions": 2000, "device": "cpu", "threads": 1},
    **{"epoch": 2, "step_per_epoch": 5, "batch_size": 16, "hidden_dims": [8, 8]},
    **{"eval_episodes": 1, "num_critics": 2, "bc_epoch": 0, "vae_hidden_dim": 8},
    **{"dynamics_hidden_dims": [8, 8], "dynamics_weight_decay": [0.0, 0.0, 0.0]},
    **{"dynamics_max_epochs": 1, "rollout_freq": 5, "rollout_batch_size": 20},
    **{"rollout_length": 2, "adv_train_steps": 2, "weight_hidden_dims": [8]},
    **{"dynamics_update_freq": 5, "adv_batch_size": 16},
}


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of the paper.

    Attributes:
        name: Of its folder.
        compare: What a reader should look at.
        tasks: Tasks.
        algorithms: Algorithms.
        data: The source of the data at full scale.
        options: Of all runs, besides the preset.
        axes: Options that are varied.
        table: The entry of the package's published.yaml that its table stands beside.
        varied: Or published numbers by task and value of the one axis.
    """

    name: str
    compare: str
    tasks: Sequence[str]
    algorithms: Sequence[str]
    data: str = "d4rl"
    options: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def plan(self, folder: Path, tasks: Sequence[str], seeds: int, quick: bool) -> Plan:
        """Its sweep, whose file is written to a folder."""
        options = {"preset": "paper", "data": self.data, **self.options}
        if quick:
            known = {name for algo in self.algorithms for name in hints(config_type_of(algo))}
            taken = {k: v for k, v in QUICK.items() if k in known and k not in self.axes}
            options = {**self.options, **taken}
        content = {
            "tasks": list(tasks or self.tasks),
            "algorithms": list(self.algorithms),
            "seeds": list(range(seeds)),
            "options": {**options, "log_root": str(folder / "log")},
            "axes": {name: list(values) for name, values in self.axes.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        return read_plan(str(path))

    def published(self, task: str, label: str) -> float:
        """The paper's number for a row of ours; NaN where there is none."""
        algo, _, point = label.partition(",")
        if self.table and not point:
            return printed(self.table["mean"], self.table["columns"], task, algo)
        if task in self.varied:
            (values,) = self.axes.values()
            return self.varied[task][[str(x) for x in values].index(point.partition("=")[2])]
        return float("nan")


def publication(name: str) -> dict[str, Any]:
    """An entry of the package's published numbers."""
    return next(entry for entry in publications() if entry["by"] == f"ROMI paper, {name}")


def scores_of(name: str, table: str, data: str, compare: str) -> Experiment:
    """A table of scores: its tasks and algorithms are those of the published one."""
    entry = publication(table)
    return Experiment(name, compare, list(entry["mean"]), entry["columns"], data, table=entry)


def main(experiment: Experiment, words: Sequence[str] | None = None) -> int:
    """Carry an experiment out, or go on with it; returns the exit status."""
    parser = argparse.ArgumentParser(description=experiment.compare)
    add = parser.add_argument
    add("--dry-run", action="store_true", help="print the commands and the hours; train nothing")
    add("--quick", action="store_true", help="seconds per run on generated data: no result")
    add("--tasks", nargs="+", default=[], help="some of its tasks; default: all")
    add("--seeds", type=int, help="default: 5; with --quick 1")
    add("--on", help="where `sweep` runs: ray, local, or a cluster's address")
    add("--jobs", help="runs at a time of --on local")
    add("--out", type=Path, default=Path("reproduce"), help="default: reproduce")
    told = parser.parse_args(words)
    folder = told.out / experiment.name
    seeds = told.seeds or (1 if told.quick else 5)
    plan = experiment.plan(folder, told.tasks, seeds, told.quick)
    trials = [trial for study in plan.studies for trial in plan.trials(study)]
    if told.dry_run:
        print("\n".join([*map(command, trials), f"# {cost(trials)}", f"# {experiment.compare}"]))
        return 0
    status = run_here(trials) if told.quick else sweep(plan, told.on, told.jobs)
    if status == 0:
        status = cli.main(["report", str(folder / "log"), "--output", str(folder / "report")])
        text = table(experiment, folder)
        (folder / "table").with_suffix(".md").write_text(text, "utf-8")
        print(text)
    return status


def command(trial: Trial) -> str:
    """The words that make a run by itself."""
    (job,) = trial.jobs
    return shlex.join(["offlinerlkit-romi", "train", *job.words])


def cost(trials: Sequence[Trial]) -> str:
    """How many runs, and the hours that the paper's Table 5 gives for those that it measured."""
    known = []
    for trial in trials:
        config, algo = trial.config, trial.jobs[0].resolved.algo
        seconds = PAPER["seconds_per_epoch"].get(config.task.removesuffix("-v2"), {}).get(algo)
        if seconds:  # per 1,000 policy steps
            known.append(seconds * config.epoch * config.step_per_epoch / 1000)
    told = [f"{len(trials)} runs"]
    if known:
        hours = sum(known) / 3600
        told.append(f"{len(known)} take {hours:,.0f} hours on one {PAPER['card']} (Table 5)")
    if len(known) < len(trials):
        told.append(f"of {len(trials) - len(known)} the hours are not measured")
    return "; ".join(told)


def run_here(trials: Sequence[Trial]) -> int:
    """One run after the other in this process: a small one is shorter than a process' start."""
    for trial in trials:
        if trial.missing(runs := Runs()):
            status = cli.main(["train", *trial.words(runs)])
            if status:
                return status
    return 0


def sweep(plan: Plan, on: str | None, jobs: str | None) -> int:
    """What is missing, by the package's own sweep."""
    where = [*(["--on", on] if on else []), *(["--jobs", jobs] if jobs else [])]
    return cli.main(["sweep", str(plan.path), *where])


def table(experiment: Experiment, folder: Path) -> str:
    """Ours beside the published numbers, a row per task and arm."""
    gathered = gather([str(folder / "log")])
    lines = [["task", "arm", "runs", "ours, last ten", "published"]]
    for source, panels in gathered.sections.items():
        for panel in panels:
            for label in panel.runs:
                scores = panel.results(label)
                value = number(experiment.published(panel.first.facts["task"], label), ".1f")
                lines.append([f"{panel.task} ({source})", label, str(len(scores)),
                              plus_minus(*mean_and_std(scores)), value])  # fmt: skip
    return f"# {experiment.name}\n\n{experiment.compare}\n\n{markdown(lines, left=2)}\n"


if __name__ == "__main__":
    sys.exit(f"{__file__} is shared by the scripts beside it: python table1.py --dry-run")
