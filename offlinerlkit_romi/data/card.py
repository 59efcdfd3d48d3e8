"""The card of a data set: all that its rows do not say, in one YAML file or as arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.columns import ColumnMap
from offlinerlkit_romi.data.rows import Bounds
from offlinerlkit_romi.envs.functions import absolute, name_of
from offlinerlkit_romi.errors import UserError, reason_of, shown

SUFFIXES = (".yaml", ".yml")
FUNCTIONS = ("env", "termination", "reward_fn")  # names, or functions themselves
FLAGS = (*FUNCTIONS, "action_bounds")  # facts that the command line takes


@dataclass(frozen=True)
class Reference:
    """A score scale, and where it holds.

    Attributes:
        low: Return that scores 0.
        high: Return that scores 100.
        env: The environment they are returns of; "" where nobody says.
        max_episode_steps: The time limit they were earned under; 0 where nobody says.
    """

    low: float
    high: float
    env: str = ""
    max_episode_steps: int = 0


@dataclass(frozen=True)
class Card:
    """What is known of a data set besides its rows.

    Attributes:
        name: The task's name in folders, tables and manifests.
        file: The data: a file, a folder of episodes, or ``minari:ID``; "" for data in memory.
        columns: Which column is what.
        action_bounds: Lowest and highest action, each one number for all or one per dimension;
            None means the simulator's, else [-1, 1].
        max_episode_steps: Time limit in steps; 0 where none is known.
        termination: Whether a next state ends the episode: ``none``, the name of a rule, or a
            function of (obs, act, next_obs). "" where it is unknown: no algorithm with a model
            can then be trained.
        reward_fn: The reward as a function of (obs, act, next_obs) where it is known; models
            learn it otherwise.
        env: Simulator to evaluate on: a Gymnasium id, or a function that makes one.
        reference_returns: Returns that score 0 and 100, told as a pair or as a `Reference`'s
            fields; None where there is no scale.
        functions: Functions that were given as such, by field.
    """

    name: str = ""
    file: str = ""
    columns: ColumnMap = field(default_factory=ColumnMap)
    action_bounds: Bounds | None = None
    max_episode_steps: int = 0
    termination: str = ""
    reward_fn: str = ""
    env: str = ""
    reference_returns: Reference | None = None
    functions: tuple[tuple[str, Callable[..., Any]], ...] = ()

    def override(self, facts: Mapping[str, Any]) -> Card:
        """This card with some facts replaced; None and "" replace nothing.

        Raises:
            UserError: An unknown fact, or one that makes no sense.
        """
        unknown = [name for name in facts if name not in _CHECKS]
        if unknown:
            raise UserError(
                f"unknown fact {unknown[0]!r} about a data set: choose from {', '.join(_CHECKS)}"
            )
        given = {name: value for name, value in facts.items() if not _empty(value)}
        functions = dict(self.functions)
        for name in FUNCTIONS:
            if name in given:
                functions.pop(name, None)
                if not isinstance(given[name], str):
                    functions[name] = _callable(name, given[name])
        checked: dict[str, Any] = {n: _CHECKS[n](n, value) for n, value in given.items()}
        return replace(self, **checked, functions=tuple(functions.items()))

    def named(self) -> Card:
        """This card with a name: where none is told, its file's."""
        if is_remote(self.file):
            name = self.file.replace(":", "-").replace("/", "-")
        else:
            name = re.sub(r"[^\w.-]+", "-", Path(self.file).stem).strip(".-") or "my-task"
        return self.override({"name": self.name or name})

    def record(self) -> dict[str, Any]:
        """Plain values for a manifest, from which `from_record` makes the card again."""
        values = {k: v for k, v in asdict(self).items() if k not in ("functions", "columns")}
        return values | {"columns": self.columns.record()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Card:
        """The card of an earlier run."""
        return cls().override(record)


def card_of(source: str | Path) -> Card:
    """What is known of a source that is a path or an address.

    Raises:
        UserError: It is a card that cannot be read.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return read_card(path)
    return Card(file=str(source) if is_remote(str(source)) else str(path.absolute()))


def read_card(path: Path) -> Card:
    """Read a card; the paths in it are relative to its folder.

    Raises:
        UserError: No such file, no YAML, or facts that make no sense.
    """
    import yaml

    try:
        facts = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the card {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"the card {path} is no YAML: {reason_of(error)}") from error
    if not isinstance(facts, dict) or not all(isinstance(key, str) for key in facts):
        raise UserError(f"the card {path} is no list of facts: write lines such as file: my.npz")
    if not isinstance(facts.get("file"), str):
        raise UserError(f"the card {path} names no data: write file: my.npz")
    try:
        card = Card(name=path.stem).override(facts)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    folder = path.resolve().parent
    named: dict[str, Any] = {name: absolute(getattr(card, name), folder) for name in FUNCTIONS}
    file = card.file if is_remote(card.file) else str(folder / Path(card.file).expanduser())
    return replace(card, file=file, **named)


def refuse_facts(facts: Mapping[str, Any], task: str) -> None:
    """Facts about the user's own data, told of a benchmark's task.

    Raises:
        UserError: There are any.
    """
    if facts:
        raise UserError(
            f"--{next(iter(facts)).replace('_', '-')} is a fact about data of your own: "
            f"{task} has its own, leave it out"
        )


def is_remote(source: str) -> bool:
    """Whether a source is no path of this machine's."""
    return source.startswith("minari:")


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _callable(name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        kind = "an environment" if name == "env" and hasattr(value, "step") else shown(value)
        raise UserError(f"{name} is {kind}: give a name, or a function such as lambda: {name}")
    function: Callable[..., Any] = value
    return function


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | Path):
        raise UserError(f"{name} is {shown(value)}: give text")
    return str(value)


def _task_name(name: str, value: Any) -> str:
    text = _text(name, value)
    if text.strip(".") != text or any(c in text for c in "/\\&\0\n") or not text.strip():
        raise UserError(
            f"{name} is {shown(text)}: it becomes a folder, give letters, digits and dashes"
        )
    return text


def _steps(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise UserError(f"{name} is {shown(value)}: give a number of steps, 0 for no limit")
    return int(value)


def _bounds(name: str, value: Any) -> Bounds:
    try:
        low, high = (tuple(np.asarray(x, np.float64).reshape(-1).tolist()) for x in value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name} is {shown(value)}: give the lowest and the highest action"
        ) from error
    width = max(len(low), len(high))
    low, high = (x * width if len(x) == 1 else x for x in (low, high))
    finite = np.isfinite([*low, *high]).all()
    if len(low) != len(high) or not finite or not all(map(float.__lt__, low, high)):
        raise UserError(
            f"{name} is {shown(value)}: the lowest must lie below the highest, both finite"
        )
    return low, high


def _reference(name: str, value: Any) -> Reference:
    if isinstance(value, Reference):
        value = asdict(value)
    try:
        pairs = value if isinstance(value, Mapping) else zip(("low", "high"), value, strict=True)
        told = dict(pairs)
        low, high = (float(told.pop(key)) for key in ("low", "high"))
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"{name} is {shown(value)}: give the returns that score 0 and 100, as [0, 100] or "
            "low: 0, high: 100, and perhaps env and max_episode_steps"
        ) from error
    if not np.isfinite([low, high]).all() or not low < high:
        raise UserError(f"{name} is {shown(value)}: the return that scores 100 must be the larger")
    env, limit = told.pop("env", None) or "", told.pop("max_episode_steps", None) or 0
    if told:
        raise UserError(
            f"{name} has {shown(next(iter(told)))}: give low, high, env, max_episode_steps"
        )
    return Reference(
        low, high, _text(f"{name} env", env), _steps(f"{name} max_episode_steps", limit)
    )


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "name": _task_name,
    "file": _text,
    "columns": lambda _, value: ColumnMap.of(value),
    "action_bounds": _bounds,
    "max_episode_steps": _steps,
    **dict.fromkeys(("termination", "reward_fn", "env"), lambda _, value: name_of(value)),
    "reference_returns": _reference,
}
# what `train` takes from Python beside `data` and `task`; the command line has it from a card
FACTS = (*FLAGS, *(name for name in _CHECKS if name not in ("name", "file", *FLAGS)))
