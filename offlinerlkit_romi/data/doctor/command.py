"""`offlinerlkit-romi data doctor TASK|FILE [--fix OUT]`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from offlinerlkit_romi.data.convert import read_any, write_file
from offlinerlkit_romi.data.doctor.diagnosis import CHECKS, Diagnosis, diagnose
from offlinerlkit_romi.data.doctor.fix import REPAIRS, fix
from offlinerlkit_romi.data.doctor.records import MAZE_RULE, SIMULATORS, Records, of_raw
from offlinerlkit_romi.data.doctor.replay import check_replay
from offlinerlkit_romi.data.origins import ORIGINS, origin_of
from offlinerlkit_romi.data.raw import RawData
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    from offlinerlkit_romi.arguments import Parser
    from offlinerlkit_romi.envs.tasks import Task

REPLAY = "another-simulator"
NEED_SIMULATOR = ("terminal-without-cause", "terminal-missing", REPLAY)
DESCRIPTION = """\
Examine a data set: next states of another episode, time limits flagged as terminals, terminals
against the task's rule, zero rewards, actions outside [-1, 1], repeated rows, NaN, and whether the
simulator that evaluates is the one that made the data (a sample of stored actions is replayed,
unless errors were found). A dash marks what could not be examined.
Exit status: 0 no errors, 1 errors found (with --fix: left in the copy), 2 bad input.
"""


def add_doctor(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to `data`'s parser."""
    doctor = commands.add_parser(
        "doctor", help="find what is wrong with a data set, and correct it", description=DESCRIPTION
    )
    doctor.add_argument(
        "source", metavar="TASK|FILE", help="a task whose data are on this machine, or a file"
    )
    doctor.add_argument("--task", help="the task that FILE belongs to (default: as FILE says)")
    doctor.add_argument(
        "--fix", metavar="OUT", help="write a corrected copy (.hdf5 or .npz); never in place"
    )
    doctor.add_argument(
        "--transitions", type=int, default=200_000, help="TASK: rows of the generated data set"
    )
    doctor.add_argument("--seed", type=int, default=0, help="TASK: of the generated data set")
    doctor.add_argument(
        "--replay",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replay stored actions in the task's simulator (default: yes)",
    )
    doctor.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine, report, and correct if asked; returns the exit status."""
    source, task = _find(arguments)
    data = read_any(source)
    task = task or _task_of(data, source)
    found = _examine(of_raw(data, task), arguments.replay)
    name = "no task known" if task is None else task.name
    _write(f"{source}: {len(data):,} rows, {name}")
    _report(found, task, arguments.replay)
    if arguments.fix is None:
        if found.errors:
            _write(f"correct it: {remedy(source, task)}")
        return int(bool(found.errors))
    return _correct(data, task, Path(arguments.fix), arguments.replay)


def remedy(source: str, task: "Task | None") -> str:
    """The command that corrects a file."""
    named = "" if task is None else f" --task {task.name}"
    return f"offlinerlkit-romi data doctor {source}{named} --fix OUT.hdf5"


def _correct(data: RawData, task: "Task | None", out: Path, replay: bool) -> int:
    fixed, done, _ = fix(data, task)
    write_file(fixed, out)
    left = _examine(of_raw(fixed, task), replay)
    _write("\n".join([*(f"fixed: {line}" for line in done), f"{out}: {len(fixed):,} rows"]))
    for finding in left.findings:
        cause = "what is left" if finding.check in REPAIRS else "cannot be fixed"
        _write(f"{cause}: {finding.check}: {finding}")
    if not left.findings:
        _write("the copy has no finding")
    return int(bool(left.errors))


def _examine(records: Records, replay: bool) -> Diagnosis:
    found = diagnose(records)
    clean = not found.errors  # wrong rows would replay wrongly, which says nothing new
    mismatch = check_replay(records) if replay and clean else None
    return replace(found, findings=(*found.findings, *([mismatch] if mismatch else [])))


def _report(found: Diagnosis, task: "Task | None", replay: bool) -> None:
    by_check = {finding.check: finding for finding in found.findings}
    rule = "" if task is None else task.termination.removeprefix("neorl-")
    left_out = set() if rule in SIMULATORS else set(NEED_SIMULATOR)
    if rule == MAZE_RULE:
        left_out.remove(REPLAY)
    if not replay or found.errors:
        left_out.add(REPLAY)
    for check in (*CHECKS, REPLAY):
        if check in by_check:
            _write(f"  {by_check[check].severity:8}{check}: {by_check[check]}")
        else:
            _write(f"  {'-' if check in left_out else 'ok':8}{check}")


def _find(arguments: argparse.Namespace) -> tuple[str, "Task | None"]:
    """The file to examine, and its task where the command line names it."""
    from offlinerlkit_romi.envs.tasks import TASKS, canonical, get_task

    task = None if arguments.task is None else get_task(arguments.task)
    name = canonical(arguments.source)
    if name not in TASKS:
        if "/" not in name and "." not in name and ":" not in name:
            get_task(name)  # neither a task nor a file's name: says which tasks are near
        return arguments.source, task
    origin, task = origin_of(get_task(name)), get_task(name)
    places = (
        origin.archive.cached_path(name),
        origin.generated_path(name, arguments.transitions, arguments.seed),
    )
    for path in places:
        if path.exists():
            return str(path), task
    raise UserError(
        f"{name} has no data on this machine ({' or '.join(map(str, places))}): "
        f"run `data fetch --task {name}` or `data generate --task {name}`"
    )


def _task_of(data: RawData, source: str) -> "Task | None":
    """The task that a file names in its metadata or by its own name."""
    from offlinerlkit_romi.envs.tasks import TASKS

    stated = data.text("task")
    if stated in TASKS:
        return TASKS[stated]
    for task in TASKS.values():
        if ORIGINS[task.family].archive.cached_path(task.name).name == Path(source).name:
            return task
    return None


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
