"""`train <algo> ...`: flags made from the configuration, the kit's spellings included."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from offlinerlkit_romi.arguments import TRUTHS, Parser, Switch, number, whole_number
from offlinerlkit_romi.experiment import help_text
from offlinerlkit_romi.experiment.config import RunConfig, flag, hints, validate
from offlinerlkit_romi.experiment.resolve import (
    COMMAND_LINE,
    Resolved,
    check_seeds,
    config_type_of,
    resolve,
)
from offlinerlkit_romi.experiment.user_data import named_task

PROGRAM = "offlinerlkit-romi train"
# what the released ROMI script calls them
ALIASES = {"epsilon": "xi", "n_samples": "num_perturbations"}
# the kit's switches for the schedule of the actor's rate
SCHEDULE_SWITCHES = ("lr_decay", "lr_scheduler")
SCHEDULES = {word: "cosine" if truth else "constant" for word, truth in TRUTHS.items()}
# what decides about the defaults, or stands beside --seeds
LEADING = ("task", "data", "preset", "resume", "seed")


def parse(algo: str, argv: Sequence[str]) -> Resolved:
    """Turn the words after `train <algo>` into a configuration with sources.

    Underscores and dashes are one; a switch may be written `--auto-alpha`, `--no-auto-alpha`,
    `--auto-alpha False` or `--auto-alpha=False`.

    Raises:
        UserError: An unknown flag, a value of the wrong type, or one that makes no sense.
        SystemExit: `--help` was asked for and has been shown.
    """
    config_type, words = config_type_of(algo), _dashed(argv)
    start = _start(algo, words)
    parser = _parser(algo, config_type, start)
    told = vars(parser.parse_args(words))
    values = {name: None if value == [None] else value for name, value in told.items()}
    resolved = start.override(values, COMMAND_LINE)
    validate(resolved.config)
    return resolved


def takes(algo: str, word: str) -> bool:
    """Whether an algorithm has a flag, written in any of the ways `parse` understands."""
    (name,) = _dashed([word.partition("=")[0]])
    return _parser(algo, config_type_of(algo)).knows(name)


def describe() -> str:
    """`train --help`: what most people set, and the algorithms."""
    parser = Parser(prog=PROGRAM, usage=f"{PROGRAM} ALGO [options]", add_help=False)
    _add_common(parser, RunConfig())
    parser.add_argument_group("algorithms (ALGO)", help_text.about_algorithms())
    parser.epilog = f"`{PROGRAM} ALGO --help` lists every option, with the algorithm's defaults."
    return parser.format_help()


def take_seeds(argv: Sequence[str]) -> tuple[list[int] | None, list[str]]:
    """Take `--seeds 0 1 2` out of the words after `train <algo>`; None without it.

    Raises:
        UserError: See `check_seeds`.
    """
    words = [word for given in argv for word in _split_seeds(given)]
    if "--seeds" not in words:
        return None, list(argv)
    first = words.index("--seeds")
    last = next((i for i in range(first + 1, len(words)) if words[i].startswith("--")), len(words))
    told, rest = words[first + 1 : last], words[:first] + words[last:]
    seeds: list[Any] = [int(word) if word.isdecimal() else word for word in told]
    return check_seeds(seeds, _leading(_dashed(rest))), rest


def _split_seeds(word: str) -> list[str]:
    """`--seeds=0,1` in the words of `--seeds 0 1`."""
    name, equals, value = word.partition("=")
    return ["--seeds", *value.replace(",", " ").split()] if name == "--seeds" and equals else [word]


def _dashed(argv: Sequence[str]) -> list[str]:
    """Flags with dashes for underscores."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        words.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return words


def _leading(words: Sequence[str]) -> dict[str, str | None]:
    parser = Parser(prog=PROGRAM, add_help=False, lenient=True)
    for name in LEADING:
        parser.add_argument(flag(name))
    return vars(parser.parse_known_args(words)[0])


def _start(algo: str, words: Sequence[str]) -> Resolved:
    """What flags override: the values of the task and the preset, or of the run to resume."""
    told = _leading(words)
    if told["resume"]:
        from offlinerlkit_romi.experiment.resume import starting_point  # imports torch

        earlier = starting_point(algo, told)
        if earlier is not None:
            return earlier
    return resolve(algo, named_task(told)["task"], told["preset"])


def _parser(algo: str, config_type: type[RunConfig], start: Resolved | None = None) -> Parser:
    """The flags of an algorithm; the help shows the defaults of `start`, none without it."""
    config = config_type() if start is None else start.config
    about, _, _ = (inspect.getdoc(config_type) or "").partition("\n")
    program = f"{PROGRAM} {algo}"
    parser = Parser(
        program, f"{program} [options]", about, add_help=False, argument_default=argparse.SUPPRESS
    )
    _add_common(parser, config)
    if start is not None:
        parser.add_argument_group("presets (--preset NAME)", help_text.about_presets(algo))
        parser.epilog = help_text.about_defaults(start)
    for title, names in help_text.sections(config_type).items():
        _add_fields(parser.add_argument_group(title), config, names)
    _add_spellings(parser, config_type)
    return parser


def _add_common(parser: Parser, config: RunConfig) -> None:
    group = parser.add_argument_group("what most people set")
    for name in help_text.COMMON:
        _add_fields(group, config, [name])
        if name == "seed":
            about = "Several seeds side by side, each as it is alone."
            group.add_argument("--seeds", nargs="+", type=int, metavar="N", help=about)
    group.add_argument("-h", "--help", action="help", help="Show this.")


def _add_fields(group: Any, config: RunConfig, names: Sequence[str]) -> None:
    types = hints(type(config))
    for name in names:
        text = f"{help_text.field_text(type(config), name)} (default: {{}})"
        group.add_argument(
            flag(name),
            dest=name,
            help=text.format(help_text.shown(getattr(config, name))).replace("%", "%%"),
            **_reading(name, types[name]),
        )


def _reading(name: str, hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a type."""
    args, optional = get_args(hint), False
    if get_origin(hint) in (Union, UnionType):
        optional, hint = True, next(arg for arg in args if arg is not type(None))
        args = get_args(hint)
    if hint is bool:
        meanings = TRUTHS | ({"none": None} if optional else {})
        return {"action": Switch, "meanings": meanings}
    if get_origin(hint) is Literal:
        return {"choices": args}
    kind = args[0] if args else hint
    read = {int: whole_number, float: number}.get(kind, str)
    return {
        "type": _or_none(read) if optional else read,
        "metavar": {int: "N", float: "X"}.get(kind, name.rpartition("_")[2].upper()),
        **({"nargs": "+"} if get_origin(hint) is tuple else {}),
    }


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda word: None if word == "None" else read(word)


def _add_spellings(parser: Parser, config_type: type[RunConfig]) -> None:
    """What the kit and the released script call some settings; not shown in the help."""
    types = hints(config_type)
    for name, ours in ALIASES.items():
        if ours in types:
            parser.add_argument(
                flag(name), dest=ours, help=argparse.SUPPRESS, **_reading(ours, types[ours])
            )
    for name in SCHEDULE_SWITCHES:
        settings: dict[str, Any] = {"dest": "actor_lr_schedule", "help": argparse.SUPPRESS}
        parser.add_argument(flag(name), action=Switch, meanings=SCHEDULES, **settings)
