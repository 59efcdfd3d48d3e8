# ruff: noqa: T201
"""`offlinerlkit-romi config show|diff`: a setting's value for a task, and who says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.envs.tasks import TASKS, get_task
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.help_text import shown
from offlinerlkit_romi.experiment.resolve import NO_PRESET, Resolved, resolve
from offlinerlkit_romi.utils.text import aligned

Fact = tuple[Any, str]  # value and source
ASKED = ("task", "preset")


def main(argv: Sequence[str]) -> int:
    """Run one of the commands.

    Raises:
        UserError: An unknown algorithm, task or preset.
        SystemExit: `--help`.
    """
    chosen = _parser().parse_args(argv)
    algo = ALGORITHMS.take(chosen.algo)
    tasks = [get_task(chosen.task).name] if chosen.task else list(TASKS)
    if chosen.command == "show":
        facts = facts_of(resolve(algo, chosen.task, chosen.preset))
        told = {name: {"value": value, "source": source} for name, (value, source) in facts.items()}
        print(json.dumps(told, indent=2) if chosen.json else _table(facts))
        return 0
    found = differences(algo, chosen.a, chosen.b, tasks)
    if chosen.json:
        print(json.dumps([d | {"a": list(d["a"]), "b": list(d["b"])} for d in found], indent=2))
    else:
        print(_told(found, (chosen.a, chosen.b), len(tasks)))
    return 0


def facts_of(resolved: Resolved) -> dict[str, Fact]:
    """Every setting's value and source."""
    values = as_dict(resolved.config)
    return {name: (value, resolved.sources[name]) for name, value in values.items()}


def differences(algo: str, a: str, b: str, tasks: Iterable[str]) -> list[dict[str, Any]]:
    """Settings that two presets set to different values.

    Args:
        algo: The algorithm.
        a: A preset, "default" for none.
        b: Another.
        tasks: Where to compare them.

    Returns:
        Of each difference the `setting`, `a` and `b` (value and source), and its `tasks`; tasks on
        which a setting differs in the same way share one.

    Raises:
        UserError: An unknown algorithm, task or preset.
    """
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        one, other = (facts_of(resolve(algo, task, preset)) for preset in (a, b))
        for name in one.keys() - set(ASKED):
            if one[name][0] == other[name][0]:
                continue
            values = shown(one[name][0]), shown(other[name][0])
            entry = {"setting": name, "a": one[name], "b": other[name], "tasks": []}
            found.setdefault(repr((name, values)), entry)["tasks"].append(task)
    return sorted(found.values(), key=lambda entry: (entry["setting"], entry["tasks"][0]))


def _table(facts: dict[str, Fact]) -> str:
    lines = [(name, shown(value), source) for name, (value, source) in facts.items()]
    return aligned([("setting", "value", "source"), *lines], left=3)


def _told(found: Sequence[dict[str, Any]], presets: tuple[str, str], count: int) -> str:
    """A block per difference."""
    if not found:
        return f"{' and '.join(presets)} set the same values"
    width = max(map(len, presets))
    blocks = []
    for entry in found:
        tasks = entry["tasks"]
        where = "" if len(tasks) == count else f" on {', '.join(tasks)}"
        lines = [
            # the row that is told is that of the first task
            f"  {name:<{width}}  {shown(v)}  "
            f"({source if len(tasks) == 1 else source.partition(', row ')[0]})"
            for name, (v, source) in zip(presets, (entry["a"], entry["b"]), strict=True)
        ]
        blocks.append("\n".join([entry["setting"] + where, *lines]))
    return "\n".join(blocks)


def _parser() -> Parser:
    top = Parser(
        prog="offlinerlkit-romi config",
        description="What an algorithm's settings are for a task, and who says so.",
    )
    commands = top.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    show = commands.add_parser("show", help="every setting with its source")
    diff = commands.add_parser("diff", help="what two presets set otherwise, and by which source")
    show.add_argument("--preset", help="named values; `train romi --help` lists those of romi")
    for name in ("--a", "--b"):
        diff.add_argument(name, default=NO_PRESET, metavar="PRESET", help="a preset")
    for command, about in ((show, "its benchmark's name"), (diff, "on this task alone")):
        command.add_argument(
            "algo", metavar="ALGO", help="romi, rambo, ...: `train --help` lists them"
        )
        command.add_argument("--task", help=about)
        command.add_argument("--json", action="store_true", help="for programs")
    return top
