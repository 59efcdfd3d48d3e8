"""What `train --help` says: the text of each setting, and the groups in which they stand."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import fields
from functools import cache
from typing import Any

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import (
    CriticConfig,
    KitConfig,
    RunConfig,
    SoftConfig,
    TwinConfig,
)
from offlinerlkit_romi.experiment.model_config import (
    AdaptiveConfig,
    AdversarialConfig,
    ModelBasedConfig,
)
from offlinerlkit_romi.experiment.resolve import Resolved, preset_names

# what people set; `--seeds` stands beside `--seed`
COMMON = (
    *("task", "preset", "data", "seed", "epoch"),
    *("eval_episodes", "device", "log_root", "resume"),
)
OWN, NETWORKS = "this algorithm", "actor and critics"
SCHEDULE, MODEL, DATA = "schedule and evaluation", "model", "data"
MACHINE, RESUME = "machine", "run folder and resuming"
SECTIONS = (OWN, NETWORKS, SCHEDULE, MODEL, DATA, MACHINE, RESUME)
# the first of each stretch of `RunConfig`'s settings
_STRETCHES = {
    "task": DATA,
    "seed": MACHINE,
    "log_root": RESUME,
    "epoch": SCHEDULE,
    "hidden_dims": NETWORKS,
}
_CLASSES: dict[type, str] = {
    CriticConfig: NETWORKS,
    TwinConfig: NETWORKS,
    SoftConfig: NETWORKS,
    ModelBasedConfig: MODEL,
    AdaptiveConfig: MODEL,
    AdversarialConfig: MODEL,
    KitConfig: OWN,
}


def sections(config_type: type[RunConfig]) -> dict[str, list[str]]:
    """The names of an algorithm's settings beyond `COMMON`, by the group of its help."""
    found: dict[str, list[str]] = {title: [] for title in SECTIONS}
    stretch = OWN
    for field in fields(config_type):
        owner = _owner(config_type, field.name)
        stretch = _STRETCHES.get(field.name, stretch)
        title = stretch if owner is RunConfig else _CLASSES.get(owner, OWN)
        if field.name not in COMMON:
            found[title].append(field.name)
    return {title: names for title, names in found.items() if names}


def field_text(config_type: type[RunConfig], name: str) -> str:
    """The string under a field."""
    owner = _owner(config_type, name)
    return _texts(owner.__module__).get(owner.__name__, {}).get(name, "")


def shown(value: Any) -> str:
    """A setting's value as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return repr(value) if value == "" else str(value)


def about_presets(algo: str) -> str:
    """The presets of an algorithm, one a line."""
    return "\n".join(f"  {name}: {about}" for name, about in preset_names(algo).items())


def about_algorithms() -> str:
    """The algorithms with their presets, one a line."""
    width = max(map(len, ALGORITHMS)) + 2
    return "\n".join(f"  {algo:<{width}}{_presets_line(algo)}" for algo in ALGORITHMS)


def _presets_line(algo: str) -> str:
    try:
        names = preset_names(algo)
    except UserError as error:
        if algo in ALGORITHMS.own:
            raise
        return str(error)  # another's package: the list is not for it alone
    return f"presets: {', '.join(names)}" if names else ""


def about_defaults(start: Resolved) -> str:
    """What the algorithm is, and what the defaults shown are."""
    _, _, rest = (inspect.getdoc(type(start.config)) or "").partition("\n")
    task, preset = start.config.task, start.config.preset
    row = sorted({s for s in start.sources.values() if f"row {task}" in s})
    rows = f"; {task} has a row of its own ({'; '.join(row)})" if row else ""
    return (
        f"{rest.strip()}\n\nDefaults shown are those for --task {task} --preset {preset}{rows}. "
        "Every run stores the source of each value in record/config.json."
    )


def _owner(config_type: type[RunConfig], name: str) -> type:
    """The class that declares a field, as its most special kind has it."""
    return next(kind for kind in config_type.__mro__ if name in inspect.get_annotations(kind))


@cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    """The strings under the fields of a module's classes."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # a notebook's cells
        return {}
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
