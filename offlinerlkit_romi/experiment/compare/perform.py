# ruff: noqa: T201
"""What `compare` does: make what is missing, then say how the algorithms stand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from offlinerlkit_romi.envs.shifts import SUITES, needs_critics, parse
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.compare.plan import Job, default_workers, make_jobs, own_flags
from offlinerlkit_romi.experiment.compare.processes import last_words, run_commands, told_status
from offlinerlkit_romi.experiment.compare.records import RunRecord, read_record, refuse_mixtures
from offlinerlkit_romi.experiment.compare.report import Report, RobustReport
from offlinerlkit_romi.experiment.config import flag
from offlinerlkit_romi.experiment.folder import ROBUSTNESS, RunFolder, find_runs
from offlinerlkit_romi.experiment.reload import evaluate
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.experiment.robustness import (
    EPISODES,
    OWN,
    Outcomes,
    conditions_of,
    read_outcomes,
    simulators,
)
from offlinerlkit_romi.system.files import file_digest
from offlinerlkit_romi.utils.logger import ROOT_DIR

DIVERGED = 3


def perform(chosen: argparse.Namespace, rest: list[str], command: str) -> int:
    """Compare; returns the exit status.

    Args:
        chosen: The command's own arguments.
        rest: Training flags for all.
        command: The command line, for the report.

    Raises:
        UserError: Something asked for is wrong, runs do not belong together, or a run failed.
        TrainingInterrupted: A signal; what ran has saved.
    """
    _check_suite(chosen)
    if chosen.runs:
        if rest or chosen.algos:
            raise UserError(f"--runs only reports: leave out {(rest or ['--algos'])[0]}")
        records = [read_record(run) for run in find_runs(chosen.runs)]
        out = chosen.out or "."
    else:
        jobs = _jobs(chosen, rest)
        config = jobs[0].resolved.config
        out = chosen.out or str(Path(config.log_root or ROOT_DIR) / config.task / "compare")
        try:
            records = _make(jobs, chosen.jobs)
        except TrainingInterrupted as stop:
            raise TrainingInterrupted(f"{stop}; go on with: {command}") from None
    status = _report(report := Report(records, command), Path(out))
    if chosen.suite:
        _test(report, chosen, Path(out))
    return status


def _jobs(chosen: argparse.Namespace, rest: list[str]) -> list[Job]:
    own = any(word.partition("=")[0] == "--data" for word in rest)  # may name its own task
    for name, value in (("algos", chosen.algos), ("task", chosen.task or own)):
        if not value:
            raise UserError(f"--{name} is missing; see `offlinerlkit-romi compare --help`")
    if chosen.jobs is not None and chosen.jobs < 1:
        raise UserError(f"--jobs is {chosen.jobs}: it must be 1 or more")
    shared = [*rest, *(["--task", chosen.task] if chosen.task else [])]
    algos = [ALGORITHMS.take(word) for word in chosen.algos]
    return make_jobs(algos, chosen.seeds, shared, own_flags(chosen.set))


def _make(jobs: Sequence[Job], workers: int | None) -> list[RunRecord]:
    """Make what is missing; returns all runs in the order of the jobs."""
    runs = Runs()
    found = [job.find(runs) for job in jobs]
    refuse_mixtures([record for record in found if record is not None])
    todo = [
        (job, earlier)
        for job, earlier in zip(jobs, found, strict=True)
        if earlier is None or earlier.status == "unfinished"
    ]
    resumed = sum(earlier is not None for _, earlier in todo)
    _say(
        f"{len(jobs)} runs: {len(jobs) - len(todo)} need nothing, {resumed} to go on with, "
        f"{len(todo) - resumed} to make"
    )
    if not todo:
        return [record for record in found if record is not None]
    config = jobs[0].resolved.config
    logs = Path(config.log_root or ROOT_DIR) / config.task / "compare"
    commands = [
        job.command(earlier, logs / f"{job.label}_seed_{job.seed}.log") for job, earlier in todo
    ]
    workers = default_workers(jobs) if workers is None else workers
    codes = run_commands(commands, min(workers, len(commands)), _say)
    failures = {
        command.name: _failure(code, command.log)
        for command, code in zip(commands, codes, strict=True)
        if code
    }
    return [_outcome(job, runs, failures.get(job.name)) for job in jobs]


def _failure(code: int, log: Path) -> str:
    """For the table, which stands beside the log."""
    if code < 0:  # its last words tell nothing of it
        return told_status(code, log.name)
    return f"failed with status {code}: {last_words(log)}"


def _outcome(job: Job, runs: Runs, failure: str | None) -> RunRecord:
    record = job.find(runs)
    if record is None:
        return RunRecord(job.label, job.seed, "failed", failure or "left no run folder")
    if failure is None or record.status in ("finished", "diverged"):
        return record
    return replace(record, status="failed", why=failure)


def _report(report: Report, out: Path) -> int:
    """Print and write; a table is shown however many runs failed."""
    failed = [record for record in report.records if record.status == "failed"]
    if all(record.run is None for record in report.records):
        raise UserError(f"no run could be made: {failed[0].name} {failed[0].why}")
    refuse_mixtures(report.records)
    print("\n" + report.text() + "\n")
    for path in report.write(out):
        print(f"written: {path}")
    if failed:
        names = ", ".join(record.name for record in failed)
        raise UserError(f"{len(failed)} runs failed, the table says how: {names}")
    return DIVERGED if any(record.status == "diverged" for record in report.records) else 0


def _check_suite(chosen: argparse.Namespace) -> None:
    """Find what a suite cannot take before hours of training."""
    for name in ("episodes", "attack_critic"):
        if getattr(chosen, name) is not None and not chosen.suite:
            raise UserError(f"{flag(name)} is of a suite: name it by --suite, or leave it out")
    attacks = any(needs_critics(parse(c)) for c in SUITES.get(chosen.suite, ()))
    if chosen.attack_critic is not None and not attacks:
        raise UserError(f"--attack-critic: no condition of {chosen.suite} is a min_q attack")
    if chosen.episodes is not None and chosen.episodes < 1:
        raise UserError(f"--episodes is {chosen.episodes}: it must be 1 or more")


def _test(report: Report, chosen: argparse.Namespace, out: Path) -> None:
    """Play the finished runs under a suite, print and write."""
    runs: dict[str, list[Outcomes]] = {}
    for record in report.records:
        if record.finished and record.run is not None:
            _say(f"{chosen.suite}: {record.name}")
            found = _tested(record.run, chosen)
            runs.setdefault(record.label, []).append(found)
    if not runs:
        raise UserError(f"--suite {chosen.suite}: none of the runs is finished")
    robust = RobustReport(report.title, chosen.suite, runs, report.command)
    print("\n" + robust.text() + "\n")
    for path in robust.write(out, report.task):
        print(f"written: {path}")


def _tested(run: RunFolder, chosen: argparse.Namespace) -> Outcomes:
    """A suite's outcomes: those a run keeps of its present weights, the others played now."""
    episodes, critic = chosen.episodes or EPISODES, chosen.attack_critic
    facts = {"episodes": episodes, "seed": 0, "weights": file_digest(run.weights)[:12]}
    wanted = {**facts, **simulators()}
    kept = {
        outcome.condition: outcome
        for outcome in read_outcomes(run.path / ROBUSTNESS)
        if outcome.critic in ("", critic or OWN)
        and all(getattr(outcome, name) == value for name, value in wanted.items())
    }
    conditions = conditions_of((), chosen.suite)
    missing = [condition for condition in conditions if condition not in kept]
    if missing:
        critic = critic if any(needs_critics(parse(c)) for c in missing) else None
        kept |= evaluate(run.path, episodes, shifts=missing, attack_critic=critic).outcomes
    return {condition: kept[condition] for condition in conditions}


def _say(line: str) -> None:
    print(line)
    sys.stdout.flush()
