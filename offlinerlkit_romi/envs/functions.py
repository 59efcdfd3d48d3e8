"""Functions of the user's, given as such or by a name that a run can record."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from offlinerlkit_romi.errors import UserError, reason_of

Function = str | Callable[..., Any]
# files imported as modules, by the names they got
_FILES: dict[str, str] = {}


def name_of(function: Function | None) -> str:
    """What a run records: the text itself, or ``module:name`` of a function."""
    if function is None or isinstance(function, str):
        return function or ""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}:{name}"


def import_path(thing: Any) -> str:
    """How another process finds a class or a function; empty where it has no way to.

    A script's own has none: importing the script would run it.
    """
    module, name = thing.__module__, thing.__qualname__
    if "<" in name or module == "__main__":
        return ""
    return f"{_FILES.get(module, module)}:{name}"


def travels(thing: Any) -> bool:
    """Whether a pickle of a class's instance can be read in another process."""
    path = import_path(thing)
    return bool(path) and not path.rpartition(":")[0].endswith(".py")


def is_path(text: str) -> bool:
    """Whether a text is ``module:name`` or ``file.py:name``."""
    # <lambda> and <locals> have a name too, though nobody can import them
    return re.fullmatch(r".+:[A-Za-z_<][\w.<>]*", text) is not None


def absolute(text: str, folder: Path) -> str:
    """``rules.py:name`` with the file's full path; everything else as it is."""
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py"):
        return text
    return f"{(folder / Path(file).expanduser()).resolve()}:{name}"


def import_function(text: str, what: str) -> Callable[..., Any]:
    """The function that ``module:name`` or ``file.py:name`` names.

    Modules are looked for where Python does, and in the working folder.

    Raises:
        UserError: There is none, or importing it failed.
    """
    module_name, _, name = text.rpartition(":")
    try:
        found: Any = _module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # the module is the user's: anything can happen in it
        raise UserError(
            f"{what} {text!r} cannot be imported ({reason_of(error)}): "
            "write module:function or file.py:function"
        ) from error
    if not callable(found):
        raise UserError(f"{what} {text!r} is a {type(found).__name__}, not a function")
    result: Callable[..., Any] = found
    return result


def _module(name: str) -> Any:
    if name.endswith(".py"):
        # a module of its own name, so that two files called rules.py do not meet
        alias = f"_{Path(name).stem}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        if alias not in sys.modules:
            spec = spec_from_file_location(alias, Path(name).expanduser())
            if spec is None or spec.loader is None or not Path(name).expanduser().is_file():
                raise FileNotFoundError(f"no file {name}")
            # a dataclass in it looks for its module while that is read
            sys.modules[alias] = module = module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[alias]
                raise
            _FILES[alias] = str(Path(name).expanduser().resolve())
        return sys.modules[alias]
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        return import_module(name)
    sys.path.insert(0, here)
    try:
        return import_module(name)
    finally:
        sys.path.remove(here)
