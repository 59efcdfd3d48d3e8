# ruff: noqa: T201
"""`offlinerlkit-romi data doctor TASK|SOURCE [--fix OUT]`."""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.data.benchmarks import ORIGINS, origin_of
from offlinerlkit_romi.data.card import Card, card_of, refuse_facts
from offlinerlkit_romi.data.checks import sliver
from offlinerlkit_romi.data.convert import check_output, write_file
from offlinerlkit_romi.data.doctor.diagnosis import CHECKS, Diagnosis, diagnose
from offlinerlkit_romi.data.doctor.fix import REPAIRS, fix
from offlinerlkit_romi.data.doctor.replay import check_replay
from offlinerlkit_romi.data.doctor.starts import MAZE_RULE, SIMULATORS, claimed, rule_name
from offlinerlkit_romi.data.doctor.values import in_words
from offlinerlkit_romi.data.fact_options import add_facts, as_words, facts_of
from offlinerlkit_romi.data.formats import KINDS
from offlinerlkit_romi.data.load import looks_like_data, read_source
from offlinerlkit_romi.data.rows import Rows
from offlinerlkit_romi.data.user import guessed_task, load_own
from offlinerlkit_romi.errors import UserError, nearest
from offlinerlkit_romi.standins.recipes import generated_path

if TYPE_CHECKING:
    from offlinerlkit_romi.arguments import Parser
    from offlinerlkit_romi.envs.tasks import Task

REPLAY = "another-simulator"
NEAR = 0.65  # "halfcheetah" is near halfcheetah-random-v2, "tank" is near nothing
NEED_SIMULATOR = ("terminal-without-cause", "terminal-missing", REPLAY)
DESCRIPTION = """\
Examine a data set: next states of another episode, time limits flagged as terminals, terminals
against the task's rule, zero rewards, actions outside their box, repeated rows, NaN, and whether
the simulator that evaluates is the one that made the data (a sample of stored actions is replayed,
unless errors were found). A dash marks what could not be examined.
Exit status: 0 no errors, 1 errors found (with --fix: left in the copy), 2 bad input.
"""


def add_doctor(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to `data`'s parser."""
    doctor = commands.add_parser(
        "doctor", help="find what is wrong with a data set, and correct it", description=DESCRIPTION
    )
    doctor.add_argument(
        "source",
        metavar="TASK|SOURCE",
        help=f"a task whose data are on this machine, or {KINDS}",
    )
    doctor.add_argument("--task", help="the task of SOURCE (default: as it says; else your own)")
    add_facts(doctor)
    doctor.add_argument(
        "--fix", metavar="OUT", help="write a corrected copy (.hdf5, .h5, .npz); never in place"
    )
    doctor.add_argument(
        "--force", action="store_true", help="let --fix change more than 1 %% of the rows"
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
    facts = facts_of(arguments)
    card = card_of(source).override(facts)
    rows = read_source(card)
    task = task or _task_of(rows, source)
    if task is not None:
        refuse_facts(facts, task.name)
    rows, notes = _claimed(rows, task, card)
    found = _replayed(diagnose(rows), rows, arguments.replay)
    name = f"no task known, actions in {in_words(rows.box)}" if task is None else task.name
    print(f"{source}: {len(rows):,} rows, {name}")
    _report(found, rows, arguments.replay)
    if (card.termination or card.reward_fn) and not found.errors:
        notes = load_own(source, guess=True, **facts).info.notes
    for note in notes:
        print(f"  note: {note}")
    if arguments.fix is not None:
        return _correct(rows, Path(arguments.fix), arguments)
    if any(finding.check in REPAIRS for finding in found.errors):
        print(f"{_advice(found)}: {remedy(source, task, facts)}")
    return int(bool(found.errors))


def _claimed(rows: Rows, task: "Task | None", card: Card) -> tuple[Rows, tuple[str, ...]]:
    """The rows with what is known of them, and what a reader must know."""
    rows = claimed(rows, task)
    if task is not None:
        return rows, rows.notes
    own, guessed = guessed_task(card, rows)
    bounds = own.action_low, own.action_high
    return replace(rows, task=own, bounds=bounds), (*rows.notes, *guessed)


def _advice(found: Diagnosis) -> str:
    rows = sum(finding.count for finding in found.findings if finding.check in REPAIRS)
    if rows <= sliver(found.rows):
        return "correct it"
    return f"correct what wrote these rows, they are too many ({rows:,}) to change without --force"


def remedy(source: str, task: "Task | None", facts: dict[str, Any]) -> str:
    """The command that corrects a file."""
    named = "" if task is None else f" --task {task.name}"
    told = as_words(facts)
    return f"offlinerlkit-romi data doctor {shlex.quote(source)}{named}{told} --fix OUT.hdf5"


def _correct(rows: Rows, out: Path, arguments: argparse.Namespace) -> int:
    check_output(out)
    fixed = fix(rows)
    if fixed.changed > sliver(len(rows)) and not arguments.force:
        raise UserError(
            f"{rows.source}: --fix would change {fixed.changed:,} of {len(rows):,} rows "
            f"({'; '.join(fixed.done)}): correct what wrote them, or add --force"
        )
    write_file(fixed.rows, out)
    left = _replayed(fixed.left, fixed.rows, arguments.replay)
    for line in fixed.done:
        print(f"fixed: {line}")
    print(f"{out}: {len(fixed.rows):,} rows")
    for finding in left.findings:
        cause = "what is left" if finding.check in REPAIRS else "cannot be fixed"
        print(f"{cause}: {finding.check}: {finding}")
    if not left.findings:
        print("the copy has no finding")
    return int(bool(left.errors))


def _replayed(found: Diagnosis, rows: Rows, replay: bool) -> Diagnosis:
    clean = not found.errors  # wrong rows would replay wrongly, which says nothing new
    mismatch = check_replay(rows) if replay and clean else None
    return replace(found, findings=(*found.findings, *([mismatch] if mismatch else [])))


def _report(found: Diagnosis, rows: Rows, replay: bool) -> None:
    by_check = {finding.check: finding for finding in found.findings}
    rule = rule_name(rows)
    left_out = set() if rule in SIMULATORS else set(NEED_SIMULATOR)
    if rule == MAZE_RULE:
        left_out.remove(REPLAY)
    if not replay or found.errors:
        left_out.add(REPLAY)
    for check in (*CHECKS, REPLAY):
        if check in by_check:
            print(f"  {by_check[check].severity:8}{check}: {by_check[check]}")
        else:
            print(f"  {'-' if check in left_out else 'ok':8}{check}")


def _find(arguments: argparse.Namespace) -> tuple[str, "Task | None"]:
    """What to examine, and its task where the command line names one of the benchmarks'."""
    from offlinerlkit_romi.envs.tasks import TASKS, canonical, get_task

    task = None if arguments.task is None else _benchmarks(arguments.task)
    name = canonical(arguments.source)
    if name not in TASKS:
        if not looks_like_data(arguments.source):
            get_task(name)  # neither a task nor a source: says which tasks are near
        return arguments.source, task
    origin, task = origin_of(get_task(name)), get_task(name)
    places = (
        origin.archive.cached_path(name),
        generated_path(name, arguments.transitions, arguments.seed),
    )
    for path in places:
        if path.exists():
            return str(path), task
    raise UserError(
        f"{name} has no data on this machine ({' or '.join(map(str, places))}): "
        f"run `data fetch --task {name}` or `data generate --task {name}`"
    )


def _benchmarks(name: str) -> "Task | None":
    """A benchmark's task; None for a name of the user's own.

    Raises:
        UserError: It looks like a benchmark's name, misspelt.
    """
    from offlinerlkit_romi.envs.tasks import TASKS, canonical, get_task

    near = nearest(name, TASKS, cutoff=NEAR)
    return get_task(name) if near or canonical(name) in TASKS else None


def _task_of(rows: Rows, source: str) -> "Task | None":
    """The task that a file names in its metadata or by its own name."""
    from offlinerlkit_romi.envs.tasks import TASKS

    stated = rows.metadata.get("task")
    if stated in TASKS:
        return TASKS[stated]
    for task in TASKS.values():
        if ORIGINS[task.family].archive.cached_path(task.name).name == Path(source).name:
            return task
    return None
