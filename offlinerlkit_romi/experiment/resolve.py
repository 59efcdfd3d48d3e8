"""From algorithm, task and preset to one value per field, and the source of each.

Later wins: the dataclass, the YAML defaults, what the preset says of every task, the task's row,
the preset's row for the task, what the caller asks for. So what speaks of one task beats what
speaks of all, and a preset that means to change a task's row has a row of its own, with its reason.
`presets/shared.yaml` has the presets of all algorithms; one with a `base` says what it does after
that preset.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from offlinerlkit_romi.envs.tasks import TASKS, canonical
from offlinerlkit_romi.errors import UserError, reason_of, unknown_name
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import RunConfig, hints, validate
from offlinerlkit_romi.experiment.user_data import named_task

ROOT = "offlinerlkit_romi.experiment"
NO_PRESET = "default"
CODE_SOURCE = "default"  # nothing speaks of it; a choice of the package's own reads "ours: ..."
COMMAND_LINE = "command line"
CALL = "call"


@dataclass(frozen=True)
class Resolved:
    """An algorithm's configuration, and by field where each value came from."""

    algo: str
    config: RunConfig
    sources: dict[str, str]

    def override(self, values: Mapping[str, Any], source: str) -> Resolved:
        """Replace some values, on behalf of `source`.

        Raises:
            UserError: An unknown field, or a value of the wrong type.
        """
        known = hints(type(self.config))
        changes = {}
        for name, value in values.items():
            if name not in known:
                raise UserError(unknown_name(f"{self.algo} setting", name, known))
            changes[name] = coerce(name, known[name], value)
        return replace(
            self,
            config=replace(self.config, **changes),
            sources={**self.sources, **dict.fromkeys(changes, source)},
        )


def resolve(algo: str, task: str | None = None, preset: str | None = None) -> Resolved:
    """Look up the values for a task under a preset.

    Args:
        algo: One of `ALGORITHMS`.
        task: Name; None keeps the configuration's default task.
        preset: One of `preset_names(algo)`; None or "default" for none.

    Raises:
        UserError: An unknown algorithm or preset; the message names the nearest.
    """
    config_type = config_type_of(algo)
    start = config_type()
    resolved = Resolved(algo, start, {f.name: CODE_SOURCE for f in fields(start)})
    task, preset = canonical(task or start.task), preset or NO_PRESET
    resolved = resolved.override({"task": task, "preset": preset}, CALL)
    for source, values in _layers(algo, task, preset):
        resolved = resolved.override(values, source)
    return resolved


def settle(algo: str, values: Mapping[str, Any], source: str = CALL) -> Resolved:
    """Resolve task and preset found in `values`, apply the rest, and check the whole.

    Raises:
        UserError: An unknown name, a wrong type, or a value that makes no sense.
    """
    values = named_task(values)
    resolved = resolve(algo, values.get("task"), values.get("preset")).override(values, source)
    validate(resolved.config)
    return resolved


def check_seeds(seeds: Sequence[int], values: Mapping[str, Any]) -> list[int]:
    """Check the seeds of runs side by side against what else is asked for.

    Raises:
        UserError: One that is no seed, or twice there; a folder to resume, or another seed.
    """
    found = list(seeds)
    if not found or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in found):
        raise UserError(f"--seeds is {seeds}: give whole numbers, 0 or more, such as 0 1 2")
    if len(set(found)) < len(found):
        raise UserError(f"--seeds is {found}: each seed once")
    if values.get("seed") is not None:
        raise UserError("--seed and --seeds: leave one out")
    if values.get("resume") not in (None, "", "auto"):
        raise UserError("--resume with --seeds: write --resume auto, or resume one folder alone")
    return found


def preset_names(algo: str) -> dict[str, str]:
    """The presets of an algorithm and what each is for."""
    return {name: entry["about"] for name, entry in _book(algo)["presets"].items()}


def coerce(name: str, hint: Any, value: Any) -> Any:
    """Bring a value from YAML or a caller to the field's type.

    Raises:
        UserError: The value is of another type, or not one of the choices.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [arg for arg in args if arg is not type(None)]
        return None if value is None else coerce(name, rest[0], value)
    if origin is Literal:
        if value not in args:
            raise UserError(unknown_name(f"value of {name}", str(value), args))
        return value
    if origin is tuple:
        return _coerce_tuple(name, args, value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number:
        return float(value)
    if hint is int and is_number and math.isfinite(value) and value == int(value):
        return int(value)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    raise UserError(f"{name} is {value!r}: expected {getattr(hint, '__name__', hint)}")


def _coerce_tuple(name: str, args: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if args[-1] is not Ellipsis and len(items) != len(args):
        raise UserError(f"{name} is {value!r}: expected {len(args)} values")
    return tuple(coerce(name, args[0], item) for item in items)


def _layers(algo: str, task: str, preset: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    book = _book(algo)
    presets = {NO_PRESET: {}, **book["presets"]}
    if preset not in presets:
        raise UserError(unknown_name(f"{algo} preset", preset, book["presets"]))
    chosen, by_preset = presets[preset], f"preset {preset}: "
    yield from _general(book.get("defaults", ()))
    yield from _general(chosen.get("values", ()), by_preset)
    yield from _rows(book, task)
    yield from _rows(chosen, task, by_preset)


def _general(
    blocks: Iterable[Mapping[str, Any]], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for block in blocks:
        yield f"{prefix}{block['source']}", block["values"]


def _rows(
    book: Mapping[str, Any], task: str, prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for block in book.get("tasks", ()):
        row = _row(block["rows"], task)
        if row is not None:
            yield f"{prefix}{block['source']}, row {row}", block["rows"][row]


def _row(rows: Mapping[str, Any], task: str) -> str | None:
    """The row that speaks of a task: its own, under any spelling, or of the task it is like."""
    names = {canonical(name): name for name in rows}
    like = TASKS[task].like if task in TASKS else None
    return names.get(task) or names.get(like or "")


def _book(algo: str) -> dict[str, Any]:
    kind: Any = config_type_of(algo)
    return _book_of(algo, kind)


@cache
def _book_of(algo: str, kind: Any) -> dict[str, Any]:
    import yaml

    try:
        book = yaml.safe_load(_read_book(algo, kind)) or {}
    except FileNotFoundError as error:
        told = f"add presets/{algo}.yaml beside the others, with defaults and their source"
        if kind.presets_file:
            told = f"{kind.__name__}.presets_file is {kind.presets_file}: put it beside its module"
        raise UserError(f"{algo} has no preset file: {told}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"presets/{algo}.yaml cannot be read: {reason_of(error)}") from error
    _check_book(algo, book)
    return book | {"presets": _built(book.get("presets", {}), {f.name for f in fields(kind)})}


def _built(own: Mapping[str, Any], settings: Collection[str]) -> dict[str, Any]:
    """An algorithm's presets and those of all, each with its base before what it says itself."""

    def known(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in settings}

    def fitted(entry: Mapping[str, Any]) -> dict[str, Any]:
        values = [block | {"values": known(block["values"])} for block in entry["values"]]
        rows = [
            block | {"rows": {task: known(row) for task, row in block["rows"].items()}}
            for block in entry["tasks"]
        ]
        return {**entry, "values": values, "tasks": rows}

    def whole(name: str, left: Mapping[str, Any]) -> dict[str, Any]:
        entry, rest = left[name], {k: v for k, v in left.items() if k != name}
        base = whole(entry["base"], rest) if entry.get("base") in rest else {}
        return entry | {k: [*base.get(k, []), *entry.get(k, [])] for k in ("values", "tasks")}

    presets = {**own, **{name: fitted(entry) for name, entry in _shared().items()}}
    return {name: whole(name, presets) for name in presets}


@cache
def _shared() -> dict[str, Any]:
    import yaml

    presets: dict[str, Any] = yaml.safe_load(_presets_file("shared"))["presets"]
    return presets


def _presets_file(name: str) -> str:
    return files(ROOT).joinpath(f"presets/{name}.yaml").read_text("utf-8")


def _read_book(algo: str, kind: type[RunConfig]) -> str:
    if kind.presets_file:
        owner = next(base for base in kind.__mro__ if "presets_file" in vars(base))
        return Path(inspect.getfile(owner)).with_name(kind.presets_file).read_text("utf-8")
    if not kind.__module__.startswith(f"{ROOT}."):
        return ""  # somebody's own: what it says is in its fields
    return _presets_file(algo)


def _check_book(algo: str, book: Any) -> None:
    """Say where a preset file is not of the expected shape.

    Raises:
        UserError: It is not.
    """

    def check(fits: bool, where: str) -> None:
        if not fits:
            raise UserError(f"presets/{algo}.yaml: {where} is not as it should be; see the others")

    def check_blocks(entry: Any, key: str, where: str) -> None:
        check(isinstance(entry, dict), where)
        for name, inner in ((key, "values"), ("tasks", "rows")):
            blocks = entry.get(name, [])
            check(isinstance(blocks, list), f"{where} {name}")
            for block in blocks:
                fits = isinstance(block, dict) and isinstance(block.get(inner), dict)
                check(fits and isinstance(block.get("source"), str), f"a block of {where} {name}")
                rows = block[inner].values() if inner == "rows" else [block[inner]]
                for values in rows:
                    names = isinstance(values, dict) and all(isinstance(n, str) for n in values)
                    check(names, f"a block of {where} {name}")

    check_blocks(book, "defaults", "the whole")
    presets = book.get("presets", {})
    check(isinstance(presets, dict), "presets")
    for name, entry in presets.items():
        check_blocks(entry, "values", f"preset {name}")
        check(isinstance(name, str) and isinstance(entry.get("about"), str), f"preset {name}")
        check(entry.get("base", name) in [*presets, *_shared()], f"the base of preset {name}")


def config_type_of(algo: str) -> type[RunConfig]:
    """The configuration of an algorithm.

    Raises:
        UserError: An unknown one.
    """
    if algo not in ALGORITHMS:
        raise UserError(unknown_name("algorithm", algo, ALGORITHMS))
    return ALGORITHMS[algo]
