"""The sweep file: what may stand in it, and what is said where something else does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from offlinerlkit_romi.errors import UserError, shown, unknown_name
from offlinerlkit_romi.experiment.command_line import takes
from offlinerlkit_romi.experiment.config import flag, hints
from offlinerlkit_romi.experiment.limits import Between, Count, Few, Positive, Seed, complaints
from offlinerlkit_romi.experiment.resolve import coerce

RANGE = ("from", "to", "log")
ASHA = {"grace": 1, "factor": 3}  # epochs before the first cut; one of so many goes on


@dataclass(frozen=True)
class Range:
    """An axis with all numbers between two.

    Attributes:
        low: The least.
        high: The most.
        log: Equal factors are equally likely, not equal steps.
        whole: Whole numbers only.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share: float) -> float:
        """The number at a share, 0 to 1, of the way from the least to the most."""
        low, high = (self.low, self.high + 1) if self.whole else (self.low, self.high)
        if self.log:
            return low * (high / low) ** share
        return low + (high - low) * share

    def word(self, value: float) -> str:
        """A number of it as a run is told: whole, or of four digits."""
        if self.whole:
            return str(min(math.floor(value), int(self.high)))
        return f"{min(max(float(f'{value:.4g}'), self.low), self.high):.12g}"


@dataclass(frozen=True)
class Axis:
    """One option that a sweep varies.

    Attributes:
        name: The option.
        algo: The one algorithm it is for; empty for all that have it.
        choices: Its values, as values of the file, by the word that names each.
        range: Or all numbers between two.
    """

    name: str
    algo: str
    choices: Mapping[str, Any]
    range: Range | None = None

    def value(self, word: str) -> Any:
        """What a word of it stands for."""
        return word if self.range is not None else self.choices[word]

    def word(self, value: float | str) -> str:
        """What names a value, which may be a number of its range."""
        if self.range is None or isinstance(value, str):
            return str(value)
        return self.range.word(value)

    def number(self, word: str) -> float | str:
        """A word of it as a search knows it: a number of its range, or the word."""
        return word if self.range is None else (int if self.range.whole else float)(word)

    def has(self, word: str) -> bool:
        """Whether a word stands for a value of it."""
        if self.range is None:
            return word in self.choices
        try:
            return self.range.low <= float(word) <= self.range.high
        except ValueError:
            return False

    def is_for(self, algo: str) -> bool:
        """Whether it is for an algorithm, which takes it."""
        return self.algo in ("", algo) and takes(algo, flag(self.name))


@dataclass(frozen=True)
class SweepFile:
    """A sweep file's content; its fields are the file's keys.

    Attributes:
        tasks: Tasks; none where `data` is an option or an axis, and tells its own.
        algorithms: Algorithms.
        seeds: Seeds of every combination.
        options: Options of every run that has them; `algo.name` for one algorithm.
        axes: Options with the values to try, lists or ranges; likewise.
        search: `grid` takes all combinations, `random` draws `trials` of them, `optuna` chooses
            them by what came out of those before.
        trials: How many to draw, for each task and algorithm.
        search_seed: Of the draw.
        metric: What `optuna` and `asha` look at: `score` or a column of the progress, its mean over
            the last ten evaluations and over the seeds.
        mode: Whether they want much or little of it.
        asha: Stop what is behind: `grace`, epochs before the first cut, and `factor`.
        seeds_per_trial: Seeds side by side in one process.
        cpus: CPU cores of a process; by default one per seed.
        gpus: GPUs of a process, 0.25 for four processes on one; by default 1 where there are any.
        retries: How often a run goes on after its process died.
    """

    algorithms: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    seeds: tuple[Seed, ...] = (0, 1, 2)
    options: Mapping[str, Any] | None = None
    axes: Mapping[str, Any] | None = None
    search: Literal["grid", "random", "optuna"] = "grid"
    trials: Count = 20
    search_seed: Seed = 0
    metric: str = "score"
    mode: Literal["max", "min"] = "max"
    asha: Mapping[str, Any] | None = None
    seeds_per_trial: Few = 1
    cpus: Positive | None = None
    gpus: Annotated[float, Between(0, 64)] | None = None
    retries: Annotated[int, Between(0, 1000)] = 2

    @property
    def judges(self) -> bool:
        """Whether the outcome of a trial decides about others."""
        return self.search == "optuna" or self.asha is not None


def read_sweep(path: Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        UserError: It cannot be read, or something in it makes no sense; the line names the place.
    """
    content = _load(path)
    known = [field.name for field in fields(SweepFile)]
    for name in content:
        if name not in known:
            raise UserError(f"{path}: {unknown_name('key', str(name), known)}")
    if "algorithms" not in content:
        raise UserError(f"{path}: no algorithms: write algorithms: [romi, rambo]")
    try:
        values = {name: _value(name, value) for name, value in content.items()}
        found = SweepFile(**values)
        _check(found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return found


def read_axes(axes: Mapping[str, Any], search: str) -> Iterator[Axis]:
    """What a sweep varies.

    Raises:
        UserError: An axis is empty, or not of the kind that the search takes.
    """
    for key, values in axes.items():
        algo, _, name = str(key).replace("-", "_").rpartition(".")
        if isinstance(values, Mapping):
            if search == "grid":
                raise UserError(
                    f"axes.{key} is a range, which a grid has not: list its values, or write "
                    "search: random or search: optuna"
                )
            yield Axis(name, algo, {}, _range(f"axes.{key}", values))
            continue
        if not isinstance(values, list) or not values:
            what = "empty" if values in (None, []) else shown(values)
            raise UserError(
                f"axes.{key} is {what}: list its values, as [1, 5], or write it under options"
            )
        choices = {_word(value): value for value in values}
        if len(choices) < len(values):
            raise UserError(f"axes.{key} has a value twice: {shown(values)}; each once")
        yield Axis(name, algo, choices)


def _load(path: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a sweep file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: give a sweep file in YAML") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        why = " ".join(str(problem or error).split())
        raise UserError(f"{path}{place}: {why}: correct the YAML there") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {shown(content)}: write keys and values, docs/sweeps.md")
    return content


def _value(name: str, value: Any) -> Any:
    """A key's value in its type, within its limits."""
    if name in ("options", "axes", "asha"):
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{name} is {shown(value)}: write names and values below it")
        return value
    found = coerce(name, hints(SweepFile)[name], value)
    for complaint in complaints(hints(SweepFile, rules=True)[name], found):
        raise UserError(f"{name} is {shown(value)}: it must be {complaint}")
    return found


def _check(found: SweepFile) -> None:
    for name in ("algorithms", "seeds"):
        if not getattr(found, name):
            raise UserError(f"{name} is empty: name at least one")
    for name in ("tasks", "algorithms", "seeds"):
        items = getattr(found, name)
        twice = [str(item) for item in dict.fromkeys(items) if items.count(item) > 1]
        if twice:
            raise UserError(f"{name} has {', '.join(twice)} more than once: each once")
    if found.judges and not found.axes:
        what = "asha" if found.search == "grid" else f"search: {found.search}"
        raise UserError(f"{what} has nothing to choose between: name axes, or leave it out")
    for name, value in (found.asha or {}).items():
        if name not in ASHA:
            raise UserError(f"asha: {unknown_name('key', str(name), ASHA)}")
        least = 1 if name == "grace" else 2
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"asha.{name} is {shown(value)}: give a whole number, {least} or more")


def _range(place: str, values: Mapping[str, Any]) -> Range:
    for name in values:
        if name not in RANGE:
            raise UserError(f"{place}: {unknown_name('key', str(name), RANGE)}")
    ends: list[Any] = [values.get(name) for name in RANGE[:2]]
    try:  # YAML takes 1e-4, without a dot, for a word
        low, high = (math.nan if isinstance(end, bool) else float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = math.nan
    log = values.get("log", False)
    if not low < high or not math.isfinite(high - low) or (log and low <= 0):
        raise UserError(
            f"{place} is {shown(dict(values))}: write {{from: 1.0e-4, to: 1.0e-3}}, rising and "
            "finite, with log: true above 0 only"
        )
    return Range(low, high, bool(log), all(isinstance(end, int) for end in ends))


def _word(value: Any) -> str:
    """What names a value in a folder's name."""
    items = value if isinstance(value, list) else [value]
    return "+".join(re.sub(r"[^\w.-]+", "_", str(item)) for item in items)
