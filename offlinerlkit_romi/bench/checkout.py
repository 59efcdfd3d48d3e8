"""Import an OfflineRL-Kit or a released ROMI from a folder, beside this package.

Both call themselves `offlinerlkit`, so a checkout's modules are taken out of `sys.modules` as soon
as they are imported: several checkouts live side by side.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from offlinerlkit_romi.errors import UserError

PACKAGE = "offlinerlkit"
# what checkouts import at every door and the timed pieces never use
STUBBED = frozenset({"gym", "d4rl", "mujoco_py", "wandb", "ray"})
MODULES = (
    *("nets", "modules", "buffer", "dynamics", "policy"),
    *("utils.scaler", "utils.noise", "utils.load_dataset", "utils.termination_fns"),
)
OPTIONAL_MODULES = ("policy_trainer",)


class Checkout:
    """The public names of a checkout.

    Args:
        path: its folder, the one that holds `offlinerlkit/`.

    Attributes:
        path: the folder.
        label: what the tables call it.
        names: every public name of its modules.

    Raises:
        UserError: no checkout there, or one that does not import.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().resolve()
        if not (self.path / PACKAGE / "policy").is_dir():
            raise UserError(
                f"--against {path}: no {PACKAGE}/policy there; "
                "give the folder of an OfflineRL-Kit or ROMI checkout"
            )
        with _imports_from(self.path):
            try:
                modules = [importlib.import_module(f"{PACKAGE}.{name}") for name in MODULES]
            except Exception as error:  # whatever foreign code raises while it is imported
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(f"--against {path}: cannot be imported ({reason})") from error
            for name in OPTIONAL_MODULES:
                try:
                    modules.append(importlib.import_module(f"{PACKAGE}.{name}"))
                except ImportError:  # the released ROMI's trainers lack a file
                    continue
        self.names: dict[str, Any] = {}
        for module in modules:
            self.names |= {k: v for k, v in vars(module).items() if not k.startswith("_")}
        self.label = "released ROMI" if "ROMIPolicy" in self.names else "OfflineRL-Kit"

    def has(self, *names: str) -> bool:
        """Whether all these names are there."""
        return set(names) <= set(self.names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.__dict__.get("names", {}):
            raise AttributeError(name)
        return self.names[name]

    def commit(self) -> str | None:
        """Of the checkout; none outside a git repository."""
        command = ["git", "-C", str(self.path), "describe", "--always", "--dirty", "--abbrev=40"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """`offlinerlkit` comes from the folder; afterwards everything is as it was."""
    finder = _StubFinder()
    before = _take_out()
    sys.path.insert(0, str(folder))
    sys.meta_path.append(finder)  # last: what is installed is not stubbed
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(folder))
        _take_out()
        sys.modules.update(before)
        for name in [n for n, m in sys.modules.items() if isinstance(m, _Stub)]:
            del sys.modules[name]


def _take_out() -> dict[str, ModuleType]:
    names = [n for n in sys.modules if n == PACKAGE or n.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Anything(type):
    """A class whose every public attribute is such a class: good for annotations and bases."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules for the names in `STUBBED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in STUBBED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
