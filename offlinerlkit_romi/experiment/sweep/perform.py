# ruff: noqa: T201
"""What `sweep` does: make what is missing, and say how far it is."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.compare.plan import Job
from offlinerlkit_romi.experiment.compare.processes import (
    QUIET_SECONDS,
    Command,
    last_words,
    run_commands,
    told_status,
)
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.experiment.statistics import mean_and_std
from offlinerlkit_romi.experiment.sweep.plan import Plan, Trial, read_plan
from offlinerlkit_romi.system.files import write_text
from offlinerlkit_romi.system.machine import usable_cores
from offlinerlkit_romi.utils.logger import ROOT_DIR
from offlinerlkit_romi.utils.text import aligned, clock, markdown, plus_minus

LOCAL, RAY = "local", "ray"
_say = partial(print, flush=True)
BAD_INPUT, DIVERGED = 2, 3


def perform(path: str, where: str | None, jobs: int | None, dry: bool) -> int:
    """Carry out a sweep; returns the exit status.

    Args:
        path: Its file.
        where: "ray", "local", or the address of a cluster; None for whichever there is.
        jobs: Trials at a time of "local"; None for what there is room for.
        dry: Only say how far it is.

    Raises:
        UserError: The file makes no sense, or a trial failed.
        TrainingInterrupted: A signal.
    """
    plan = read_plan(path)
    trials = [trial for study in plan.studies for trial in plan.trials(study)]
    where = where or (RAY if find_spec("ray") else LOCAL)
    _check(plan, where, jobs)
    overview = Overview(plan)
    todo = _to_carry_out(plan, trials)
    _say(f"{path}: {len(trials)} trials, {len(todo)} of them to carry out, on {where}")
    failures: Mapping[str, str] = {}
    if not dry and (todo or plan.file.search == "optuna"):
        try:
            failures = _carry_out(plan, todo, where, jobs, overview)
        except TrainingInterrupted as stop:
            raise TrainingInterrupted(f"{stop}; go on with the same command") from None
    return overview.end(failures, dry)


def _to_carry_out(plan: Plan, trials: Sequence[Trial]) -> list[Trial]:
    """What is missing; where trials are judged all of them, what others are judged by first."""
    runs = Runs()
    if not plan.file.judges:
        return [trial for trial in trials if trial.missing(runs)]
    return sorted(trials, key=lambda trial: -sum(len(r.curve) for r in trial.records(runs)))


def _check(plan: Plan, where: str, jobs: int | None) -> None:
    if jobs is not None and (jobs < 1 or where != LOCAL):
        raise UserError(f"--jobs is {jobs}: it must be 1 or more, and is for --on local alone")
    if where == LOCAL and plan.file.judges:
        what = "asha" if plan.file.asha is not None else "search: optuna"
        raise UserError(f"{plan.path}: {what} needs Ray: pip install 'offlinerlkit-romi[sweep]'")


def _carry_out(
    plan: Plan, trials: Sequence[Trial], where: str, jobs: int | None, overview: Overview
) -> Mapping[str, str]:
    if where == LOCAL:
        return _run_here(plan, trials, jobs, overview)
    try:
        from offlinerlkit_romi.experiment.sweep.on_ray import cluster, run_on_ray
    except ImportError as error:
        raise UserError(
            f"--on {where} needs Ray ({error}): pip install 'offlinerlkit-romi[sweep]', or give "
            "--on local"
        ) from error
    with cluster(where):
        return run_on_ray(plan, trials, _say, overview.now_and_then)


def _run_here(
    plan: Plan, trials: Sequence[Trial], jobs: int | None, overview: Overview
) -> dict[str, str]:
    """Processes of this machine; one that died is given again, and goes on."""
    gpus = torch.cuda.device_count()
    cpu, gpu = plan.room(trials, gpus)
    room = max(int(usable_cores() / cpu), 1)
    if gpu:
        room = min(room, max(int(1 / gpu), 1) * gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    todo, failures = list(trials), dict[str, str]()
    for _ in range(1 + plan.file.retries):
        runs = Runs()
        commands = [_command(plan, trial, runs) for trial in todo]
        codes = run_commands(
            commands,
            min(jobs or room, len(commands)),
            _say,
            meanwhile=overview.now_and_then,
            environment=lambda place: device_of(place, gpus if gpu else 0, visible),
        )
        ends = list(zip(todo, commands, codes, strict=True))
        failures |= {trial.name: _why(code, command.log) for trial, command, code in ends}
        # what is wrong with the input stays wrong, what diverged would do so again
        todo = [trial for trial, _, code in ends if code not in (0, BAD_INPUT, DIVERGED)]
        if not todo:
            break
    return {name: why for name, why in failures.items() if why}


def _command(plan: Plan, trial: Trial, runs: Runs) -> Command:
    argv = [sys.executable, "-m", "offlinerlkit_romi.cli", "train", *trial.words(runs)]
    name = re.sub(r"[^\w.,=+-]+", "_", trial.name)
    log = _folder(trial.config) / plan.path.stem / f"{name}.log"
    return Command(trial.name, argv, log, trial.config.threads)


def _why(code: int, log: Path) -> str:
    if code in (0, DIVERGED):
        return ""
    return told_status(code, log) if code < 0 else f"{last_words(log)} (log: {log})"


def device_of(place: int, gpus: int, visible: str) -> dict[str, str]:
    """The GPU of a place in the pool, of so many; none of none.

    Args:
        place: Its number.
        gpus: How many there are.
        visible: Which of the machine's they are, if somebody said so.
    """
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    told = visible.split(",")
    names = told if len(told) == gpus and told[0] else [str(number) for number in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": names[place % gpus]}


class Overview:
    """How far a sweep is, as its run folders tell."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._runs = plan, Runs()
        self._start = self._told = time.monotonic()

    def now_and_then(self) -> None:
        """The table, once a minute."""
        if time.monotonic() - self._told >= QUIET_SECONDS:
            self._told = time.monotonic()
            table = aligned(self._cells(self._lines()), left=2)
            _say(f"after {clock(self._told - self._start)}:\n{table}")

    def end(self, failures: Mapping[str, str], dry: bool) -> int:
        """The table and what became of the rest, on the screen and in a file.

        Raises:
            UserError: A trial failed.
        """
        lines = self._lines()
        cells = self._cells(lines)
        notes = [*_best(self._plan, lines), *(f"{name}: {why}" for name, why in failures.items())]
        print("\n".join(["", aligned(cells, left=2), "", *notes]))
        if dry:
            return 0
        text = "\n".join([markdown(cells, left=2), "", *(f"- {note}" for note in notes), ""])
        print(f"written: {_write(self._plan, text)}")
        if failures:
            raise UserError(f"{len(failures)} trials failed, the lines above say how")
        return DIVERGED if any(line.diverged for line in lines) else 0

    def _cells(self, lines: Sequence[Line]) -> list[list[str]]:
        head = ["task", "algorithm", "finished", "diverged", "epochs"]
        return [[*head, f"{self._plan.file.metric}, last 10"], *(line.cells() for line in lines)]

    def _lines(self) -> list[Line]:
        """One per task, algorithm and combination."""
        found: dict[tuple[str, str], Line] = {}
        for study in self._plan.studies:
            for trial in self._plan.trials(study):
                for job in trial.jobs:
                    config = job.resolved.config
                    line = found.setdefault((config.task, job.label), Line(config.task, job.label))
                    line.add(self._plan, config, self._newest(job))
        return list(found.values())

    def _newest(self, job: Job) -> RunFolder | None:
        """Its run, a finished one before all others; no lock is tried, which may be wanted."""
        return min(self._runs.of(job.resolved), key=lambda run: not run.finished, default=None)


@dataclass
class Line:
    """What there is of one task, algorithm and combination.

    Attributes:
        task: The task.
        label: The algorithm, and what is varied.
        scores: Of its finished runs.
        runs: How many there are to be.
        diverged: How many diverged.
        epochs: Done, and to be done.
    """

    task: str
    label: str
    scores: list[float] = field(default_factory=list)
    runs: int = 0
    diverged: int = 0
    epochs: tuple[int, int] = (0, 0)

    def add(self, plan: Plan, config: RunConfig, run: RunFolder | None) -> None:
        """Count a run."""
        rows = [] if run is None else run.rows()
        done = int(rows[-1]["timestep"]) // config.step_per_epoch if rows else 0
        self.runs += 1
        self.epochs = (self.epochs[0] + done, self.epochs[1] + config.epoch)
        if run is not None and run.finished:
            self.scores.append(plan.measured(rows))
        elif run is not None:
            self.diverged += run.diverged

    def cells(self) -> list[str]:
        """For the table."""
        mean, std = mean_and_std(self.scores)
        epochs, many = f"{self.epochs[0]}/{self.epochs[1]}", f"{len(self.scores)} of {self.runs}"
        told = [self.task, self.label, many, str(self.diverged or ""), epochs]
        return [*told, plus_minus(mean, std)]


def _best(plan: Plan, lines: Sequence[Line]) -> list[str]:
    """What was best, where something was varied."""
    sign = 1 if plan.file.mode == "max" else -1
    whole = [line for line in lines if len(line.scores) == line.runs and "," in line.label]
    whole = [line for line in whole if not math.isnan(mean_and_std(line.scores)[0])]
    found: dict[tuple[str, str], Line] = {}
    for line in sorted(whole, key=lambda line: sign * mean_and_std(line.scores)[0]):
        found[line.task, line.label.partition(",")[0]] = line
    return [
        f"best on {task}: {line.label}, chosen by these very runs: repeat it on fresh seeds"
        for (task, _), line in found.items()
    ]


def _write(plan: Plan, text: str) -> Path:
    path = _folder(plan.studies[0].config) / f"{plan.path.stem}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _folder(config: RunConfig) -> Path:
    return Path(config.log_root or ROOT_DIR) / "sweep"
