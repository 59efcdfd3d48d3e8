# ruff: noqa: T201
"""`compare ...`: make what is missing, then say how the algorithms stand."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.compare.conduct import conduct, last_words
from offlinerlkit_romi.experiment.compare.jobs import (
    Job,
    default_workers,
    make_jobs,
    own_flags,
)
from offlinerlkit_romi.experiment.compare.records import (
    RunRecord,
    find_folders,
    read_record,
    refuse_mixtures,
)
from offlinerlkit_romi.experiment.compare.report import Report
from offlinerlkit_romi.utils.logger import ROOT_DIR

PROGRAM = "offlinerlkit-romi compare"
DIVERGED = 3
DESCRIPTION = """\
Train several algorithms on one task with several seeds, then print one table and draw one figure.
Runs that are finished are used as they are, runs that stopped are gone on with, missing ones are
made; the same command can be given again at any time. Every training flag that is not listed here
(`offlinerlkit-romi train <algo> --help`) goes to each algorithm that has it."""
EXAMPLES = f"""\
examples:
  {PROGRAM} --algos cql iql mopo rambo mobile romi --task hopper-medium-v2 --seeds 0 1 2
  {PROGRAM} --algos mopo romi --task halfcheetah-random-v2 --seeds 0 1 2 --preset quick \\
      --transitions 100000 --set romi.rollout_length=5 romi.xi=0.1 --jobs 4
  {PROGRAM} --runs log/hopper-medium-v2 --out report      only report on runs there are

The table (mean of the last ten evaluations ± std over seeds, interquartile mean with a bootstrap
interval from three seeds on, steps/s, wall time, mean Q, the data's own score) is printed and
written as Markdown, CSV and JSON beside the figure. Runs on other data, another data source or
another simulator are never mixed: the differences are listed instead. Exit status: 0 done, 2 wrong
input or a run that failed, 3 a run diverged (the table says which), 75 stopped by SIGTERM or
Ctrl-C, with the runs saved."""


class _Parser(argparse.ArgumentParser):
    """argparse with its complaints in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def main(words: Sequence[str]) -> int:
    """Compare; returns the exit status.

    Raises:
        UserError: Something asked for is wrong, runs do not belong together, or a run failed.
        TrainingInterrupted: A signal; what ran has saved.
    """
    chosen, rest = _parser().parse_known_args(words)
    command = shlex.join(["offlinerlkit-romi", "compare", *words])
    if chosen.runs:
        if rest or chosen.algos:
            raise UserError(f"--runs only reports: leave out {(rest or ['--algos'])[0]}")
        records = [read_record(folder) for folder in find_folders(chosen.runs)]
        out = chosen.out or "."
    else:
        jobs = _jobs(chosen, rest)
        config = jobs[0].resolved.config
        out = chosen.out or str(Path(config.log_root or ROOT_DIR) / config.task / "compare")
        records = _make(jobs, chosen.jobs)
    return _report(Report(records, command), Path(out))


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --algos ALGO ... --task TASK [options] [training flags]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--algos", nargs="+", metavar="ALGO", help="algorithms, in the order of the table")
    add("--task", metavar="TASK", help="task by its D4RL name; your own --data bring theirs")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="ALGO.NAME=VALUE",
        help="a setting of one algorithm; several values with commas",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at a time, each with one CPU thread (--threads); default: CPU cores, 1 on CUDA",
    )
    add("--out", metavar="DIR", help="where the report goes; default: <log root>/<task>/compare")
    add(
        "--runs", nargs="+", metavar="DIR", help="report on these runs, or all below; train nothing"
    )
    return parser


def _jobs(chosen: argparse.Namespace, rest: list[str]) -> list[Job]:
    own = any(word.partition("=")[0] == "--data" for word in rest)  # may name its own task
    for name, value in (("algos", chosen.algos), ("task", chosen.task or own)):
        if not value:
            raise UserError(f"--{name} is missing; see `{PROGRAM} --help`")
    if chosen.jobs is not None and chosen.jobs < 1:
        raise UserError(f"--jobs is {chosen.jobs}: it must be 1 or more")
    shared = [*rest, *(["--task", chosen.task] if chosen.task else [])]
    return make_jobs(chosen.algos, chosen.seeds, shared, own_flags(chosen.set))


def _make(jobs: Sequence[Job], workers: int | None) -> list[RunRecord]:
    """Make what is missing; returns all runs in the order of the jobs."""
    found = [job.find() for job in jobs]
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
    errands = [
        job.errand(earlier, logs / f"{job.label}_seed_{job.seed}.log") for job, earlier in todo
    ]
    workers = default_workers(jobs) if workers is None else workers
    codes = conduct(errands, min(workers, len(errands)), _say)
    failures = {
        errand.name: f"failed with status {code}: {last_words(errand.log)}"
        for errand, code in zip(errands, codes, strict=True)
        if code
    }
    return [_outcome(job, failures.get(job.name)) for job in jobs]


def _outcome(job: Job, failure: str | None) -> RunRecord:
    record = job.find()
    if record is None:
        return RunRecord(job.label, job.seed, "failed", failure or "left no run folder")
    if failure is None or record.status in ("finished", "diverged"):
        return record
    return RunRecord(**{**vars(record), "status": "failed", "why": failure})


def _report(report: Report, out: Path) -> int:
    """Print and write; a table is shown however many runs failed."""
    failed = [record for record in report.records if record.status == "failed"]
    if all(record.folder is None for record in report.records):
        raise UserError(f"no run could be made: {failed[0].name} {failed[0].why}")
    refuse_mixtures(report.records)
    print("\n" + report.text() + "\n")
    for path in report.write(out):
        print(f"written: {path}")
    if failed:
        names = ", ".join(record.name for record in failed)
        raise UserError(f"{len(failed)} runs failed, the table says how: {names}")
    return DIVERGED if any(record.status == "diverged" for record in report.records) else 0


def _say(line: str) -> None:
    print(line)
    sys.stdout.flush()
