"""`train <algo> ...`: flags made from the configuration, the kit's spellings included."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, replace
from typing import Any, get_type_hints

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import RunConfig, flag, validate
from offlinerlkit_romi.experiment.own_data import named_task
from offlinerlkit_romi.experiment.resolve import (
    COMMAND_LINE,
    Resolved,
    check_seeds,
    preset_names,
    resolve,
    unknown_name,
)
from offlinerlkit_romi.experiment.resume import starting_point

# what the released ROMI script calls them
ALIASES = {"epsilon": "xi", "n_samples": "num_perturbations"}
# the kit's switches for the schedule of the actor's rate
SCHEDULE_SWITCHES = ("lr_decay", "lr_scheduler")
HELP_FLAGS = ("-h", "--help")
MAYBE = bool | None  # a switch that decides by itself unless told


def parse(algo: str, argv: Sequence[str]) -> Resolved:
    """Turn the words after `train <algo>` into a configuration with sources.

    Underscores and dashes are one; a switch may be written `--auto-alpha`, `--no-auto-alpha`,
    `--auto-alpha False` or `--auto-alpha=False`.

    Raises:
        UserError: An unknown flag, a value of the wrong type, or one that makes no sense.
        SystemExit: `--help` was asked for and has been shown.
    """
    import tyro

    config_type = _config_type(algo)
    words = _normalize(argv, config_type)
    start = starting_point(algo, {"resume": _last_value(words, "--resume")})
    if start is None:
        told = {name: _last_value(words, f"--{name}") for name in ("task", "data", "preset")}
        start = resolve(algo, named_task(told)["task"], told["preset"])
    messages = io.StringIO()
    try:
        with redirect_stderr(messages):
            config = tyro.cli(
                config_type,
                default=start.config,
                args=words,
                prog=f"offlinerlkit-romi train {algo}",
                description=_describe(algo, start),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_one_line(messages.getvalue())) from end
    validate(config)
    named = {name for name in _names(config_type) if _is_named(name, words)}
    sources = start.sources | dict.fromkeys(named, COMMAND_LINE)
    return replace(start, config=config, sources=sources)


def takes(algo: str, word: str) -> bool:
    """Whether an algorithm has a flag, written in any of the ways `parse` understands."""
    try:
        _normalize([word.partition("=")[0]], _config_type(algo))
    except UserError:
        return False
    return True


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
    values = {name: _last_value(rest, f"--{name}") for name in ("seed", "resume")}
    seeds: list[Any] = [int(word) if word.isdecimal() else word for word in told]
    return check_seeds(seeds, values), rest


def _split_seeds(word: str) -> list[str]:
    """`--seeds=0,1` in the words of `--seeds 0 1`."""
    name, equals, value = word.partition("=")
    return ["--seeds", *value.replace(",", " ").split()] if name == "--seeds" and equals else [word]


def _config_type(algo: str) -> type[RunConfig]:
    if algo not in ALGORITHMS:
        raise UserError(unknown_name("algorithm", algo, ALGORITHMS))
    return ALGORITHMS[algo]


def _names(config_type: type[RunConfig]) -> list[str]:
    return [field.name for field in fields(config_type)]


def _normalize(argv: Sequence[str], config_type: type[RunConfig]) -> list[str]:
    """Dashes for underscores, names for aliases, and `--switch True|False` as switches."""
    hints = get_type_hints(config_type) | dict.fromkeys(SCHEDULE_SWITCHES, bool)
    words: list[str] = []
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--") or word == "--help":
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        name = ALIASES.get(name, name) if ALIASES.get(name) in hints else name
        negated = name.startswith("no_") and hints.get(name[3:]) in (bool, MAYBE)
        if name not in hints and not negated:
            known = [flag(known).removeprefix("--") for known in hints]
            raise UserError(unknown_name("flag", name.replace("_", "-"), known, prefix="--"))
        if hints.get(name) in (bool, MAYBE):
            if not equals and waiting and _truth(waiting[0]) is not None:
                value = waiting.pop(0)
            words += _switch(name, value, hints[name])
        elif negated and hints[name[3:]] == MAYBE and not equals:
            words += _switch(name[3:], "False", MAYBE)
        else:
            words += [flag(name), value] if equals else [flag(name)]
    return words


def _switch(name: str, value: str, hint: Any) -> list[str]:
    truth = _truth(value) if value else True
    if truth is None:
        raise UserError(f"{flag(name)} is {value!r}: write True or False")
    if name in SCHEDULE_SWITCHES:
        return [flag("actor_lr_schedule"), "cosine" if truth else "constant"]
    if hint == MAYBE:  # to tyro a choice of three
        return [flag(name), str(truth)]
    return [flag(name) if truth else flag(f"no_{name}")]


def _truth(word: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(word.lower())


def _last_value(words: Sequence[str], name: str) -> str | None:
    places = [i for i, word in enumerate(words[:-1]) if word == name]
    return words[places[-1] + 1] if places else None


def _is_named(name: str, words: Iterable[str]) -> bool:
    return any(word in (flag(name), flag(f"no_{name}")) for word in words)


def _describe(algo: str, start: Resolved) -> str:
    """The help's head: what the algorithm is, its presets, and what the defaults shown are."""
    doc = inspect.getdoc(type(start.config)) or ""
    presets = "\n".join(f"  {name}: {about}" for name, about in preset_names(algo).items())
    task, preset = start.config.task, start.config.preset
    row = sorted({s for s in start.sources.values() if f"row {task}" in s})
    rows = f"; {task} has a row of its own ({'; '.join(row)})" if row else ""
    return (
        f"{doc}\n\nSeveral seeds side by side: --seeds 0 1 2 instead of --seed; each is the run it "
        f"is alone, in a folder of its own.\n\nPresets (--preset NAME):\n{presets}\n\n"
        f"Defaults shown are those for --task {task} --preset {preset}{rows}. "
        "Every run stores the source of each value in record/config.json."
    )


def _one_line(message: str) -> str:
    """The sentence inside tyro's box."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in message.splitlines()]
    body: list[str] = []
    for line in lines:
        if set(line) <= {"─"} and line:
            break
        if line and not line.startswith("─"):
            body.append(line)
    return " ".join(body) or "the command line cannot be read; see --help"
