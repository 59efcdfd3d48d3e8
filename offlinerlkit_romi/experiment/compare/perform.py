# ruff: noqa: T201
"""What `compare` does: make what is missing, then say how the algorithms stand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from offlinerlkit_romi.envs.shifts import needs_critics, parse
from offlinerlkit_romi.envs.tasks import canonical
from offlinerlkit_romi.errors import TrainingInterrupted, UserError, unknown_name
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.compare.bands import (
    Bands,
    difference,
    judged,
    read_bands,
    refuse_other_runs,
    table,
    write_bands,
    write_table,
)
from offlinerlkit_romi.experiment.compare.plan import Job, default_workers, make_jobs, own_flags
from offlinerlkit_romi.experiment.compare.processes import last_words, run_commands, told_status
from offlinerlkit_romi.experiment.compare.records import RunRecord, read_record, refuse_mixtures
from offlinerlkit_romi.experiment.compare.report import Report, RobustReport
from offlinerlkit_romi.experiment.config import as_dict, flag
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
from offlinerlkit_romi.experiment.suites import SUITES, Benchmark
from offlinerlkit_romi.system.files import file_digest
from offlinerlkit_romi.utils.logger import ROOT_DIR
from offlinerlkit_romi.utils.text import aligned

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
    benchmark = _benchmark(chosen)
    bands = read_bands(benchmark, chosen.bands) if benchmark else {}
    status, everything = 0, list[RunRecord]()
    for records, out in _tables(chosen, rest, command, benchmark):
        status = max(status, _report(report := Report(records, command), out))
        everything += records
        if chosen.suite and not benchmark:
            _test(report, chosen, out)
    if benchmark:
        _judge(benchmark, everything, bands, chosen.write_bands, out)
    if failed := [record.name for record in everything if record.status == "failed"]:
        raise UserError(f"{len(failed)} runs failed, the table says how: {', '.join(failed)}")
    return status


def _tables(
    chosen: argparse.Namespace, rest: list[str], command: str, benchmark: Benchmark | None
) -> Iterator[tuple[list[RunRecord], Path]]:
    """Of each table its runs, made where they are missing, and where it goes."""
    if chosen.runs:
        if rest or chosen.algos:
            raise UserError(f"--runs only reports: leave out {(rest or ['--algos'])[0]}")
        records = [read_record(run) for run in find_runs(chosen.runs)]
        if benchmark:
            refuse_other_runs(benchmark, records)
        tasks = benchmark.tasks if benchmark else [None]
        groups = [[x for x in records if task in (None, x.facts["task"])] for task in tasks]
        yield from ((group, Path(chosen.out or ".")) for group in groups if group)
        return
    plans = _plans(chosen, rest, benchmark)
    for jobs in plans:
        config = jobs[0].resolved.config
        place = benchmark.name if benchmark else f"{config.task}/compare"
        out = Path(chosen.out or Path(config.log_root or ROOT_DIR) / place)
        try:
            yield _make(jobs, chosen.jobs), out
        except TrainingInterrupted as stop:
            raise TrainingInterrupted(f"{stop}; go on with: {command}") from None


def _plans(
    chosen: argparse.Namespace, rest: list[str], benchmark: Benchmark | None
) -> list[list[Job]]:
    """The jobs of each table."""
    if benchmark is None:
        return [_jobs(chosen, rest, chosen.task)]
    tasks, name = benchmark.tasks, benchmark.name
    if chosen.task:
        if canonical(chosen.task) not in tasks:
            raise UserError(unknown_name(f"task of {name}", chosen.task, tasks))
        tasks = (canonical(chosen.task),)
    chosen.algos = chosen.algos or list(ALGORITHMS)
    plans = [_jobs(chosen, ["--preset", name, *rest], task) for task in tasks]
    for job in (job for jobs in plans for job in jobs):
        told = job.resolved
        if why := difference(benchmark, told.config.task, told.algo, as_dict(told.config)):
            raise UserError(f"--suite {name} has its own settings, and {why}: leave it out")
    return plans


def _jobs(chosen: argparse.Namespace, rest: list[str], task: str | None) -> list[Job]:
    own = any(word.partition("=")[0] == "--data" for word in rest)  # may name its own task
    for name, value in (("algos", chosen.algos), ("task", task or own)):
        if not value:
            raise UserError(f"--{name} is missing; see `offlinerlkit-romi compare --help`")
    if chosen.jobs is not None and chosen.jobs < 1:
        raise UserError(f"--jobs is {chosen.jobs}: it must be 1 or more")
    shared = [*rest, *(["--task", task] if task else [])]
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
    if all(record.run is None for record in report.records):
        first = report.records[0]
        raise UserError(f"no run could be made: {first.name} {first.why}")
    refuse_mixtures(report.records)
    print("\n" + report.text() + "\n")
    for path in report.write(out):
        print(f"written: {path}")
    return DIVERGED if any(record.status == "diverged" for record in report.records) else 0


def _benchmark(chosen: argparse.Namespace) -> Benchmark | None:
    """The benchmark that is asked for; what its kind of suite cannot take is found here."""
    suite = SUITES.get(chosen.suite or "")
    benchmark = suite if isinstance(suite, Benchmark) else None
    shifts, bands = ("episodes", "attack_critic"), ("bands", "write_bands")
    kinds = dict.fromkeys(shifts, "robust-v1") | dict.fromkeys(bands, "small-v1")
    for name, one in kinds.items():
        if getattr(chosen, name) is not None and type(suite) is not type(SUITES[one]):
            told = f"of a suite such as {one}: name it by --suite, or leave it out"
            raise UserError(f"{flag(name)} is {told}")
    conditions = suite if isinstance(suite, tuple) else ()
    if chosen.attack_critic is not None and not any(needs_critics(parse(c)) for c in conditions):
        raise UserError(f"--attack-critic: no condition of {chosen.suite} is a min_q attack")
    if chosen.episodes is not None and chosen.episodes < 1:
        raise UserError(f"--episodes is {chosen.episodes}: it must be 1 or more")
    return benchmark


def _judge(
    benchmark: Benchmark, records: Sequence[RunRecord], bands: Bands, file: str | None, out: Path
) -> None:
    """Print and write how a benchmark's finished runs stand to bands, to their own in a file."""
    finished = [record for record in records if record.finished]
    if file:
        bands = write_bands(benchmark, finished, Path(file))
        print(f"written: {file}")
    verdicts = judged(finished, bands)
    print("\n" + aligned(table(verdicts), left=2) + "\n")
    for path in write_table(benchmark, verdicts, out):
        print(f"written: {path}")


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
