"""The page of the public interface names what there is."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import offlinerlkit_romi
from offlinerlkit_romi import Callback

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
# | modules | names | yes |
ROWS = re.findall(r"^\| (`offlinerlkit_romi.*?) \| (.*) \| (yes|no) \|$", PAGE, re.MULTILINE)


def modules_of(cell: str) -> list[str]:
    """`a.b`, `.c` -> a.b, a.c."""
    names = re.findall(r"`([\w.]+)`", cell)
    parent = names[0].rpartition(".")[0]
    return [parent + name if name.startswith(".") else name for name in names]


def test_the_front_door_is_named_whole() -> None:
    cell, names, stable = ROWS[0]
    assert (modules_of(cell), stable) == (["offlinerlkit_romi"], "yes")
    assert sorted(re.findall(r"`(\w+)`", names)) == sorted(offlinerlkit_romi.__all__)


def test_every_module_and_name_of_the_table_is_there() -> None:
    named = 0
    for cell, names, _ in ROWS:
        modules = [import_module(name) for name in modules_of(cell)]
        for name in re.findall(r"`(\w+)(?:\(\w*\))?`", names):
            assert hasattr(modules[0], name), (cell, name)
            named += 1
    assert len(ROWS) >= 10 and named > 25


def test_every_hook_is_told_of() -> None:
    hooks = {name for name in vars(Callback) if name.startswith("on_") or name.endswith("_dict")}
    told = set(re.findall(r"`(\w+)\(", "\n".join(re.findall(r"^\| `.*$", PAGE, re.MULTILINE))))
    assert len(hooks) == 7 and hooks <= told
