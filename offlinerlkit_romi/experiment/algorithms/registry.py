"""Algorithms by name: the package's, the user's, and those of installed packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import is_dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from offlinerlkit_romi.envs.functions import import_function, import_path
from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.experiment.config import RunConfig

GROUP = "offlinerlkit_romi.algorithms"
Kind = type[RunConfig]


class Registry(MutableMapping[str, Kind]):
    """What an algorithm can be told, by its name; other packages' are imported when asked for.

    Args:
        own: The package's.

    Attributes:
        own: Their names.
    """

    def __init__(self, own: Mapping[str, Kind]) -> None:
        self._known, self.own = dict(own), frozenset(own)

    @cached_property
    def _announced(self) -> dict[str, EntryPoint]:
        found = {entry.name: entry for entry in entry_points(group=GROUP)}
        return {name: entry for name, entry in found.items() if name not in self.own}

    def __getitem__(self, name: str) -> Kind:
        if name not in self._known:
            entry = self._announced[name]
            try:
                self.register(name, entry.load())
            except UserError:
                raise
            except Exception as error:  # the package is another's: anything can happen in it
                raise UserError(
                    f"algorithm {name!r} of {entry.value} cannot be imported ({reason_of(error)}): "
                    "mend or uninstall its package"
                ) from error
        return self._known[name]

    def __setitem__(self, name: str, kind: Kind) -> None:
        self._known[name] = kind

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._announced

    def __iter__(self) -> Iterator[str]:
        return iter({**self._known, **self._announced})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def register(self, name: str, kind: object) -> None:
        """Take an algorithm; the same name again takes the later one's place.

        Raises:
            UserError: It is none, or the name is the package's.
        """
        if name in self.own or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            why = "is the package's" if name in self.own else "is no name"
            raise UserError(f"algorithm {name!r} {why}: take another, of letters, digits, _ and -")
        if not (isinstance(kind, type) and issubclass(kind, RunConfig)):
            raise UserError(f"algorithm {name!r} is {kind!r}: register a dataclass of RunConfig's")
        if "__dataclass_fields__" not in vars(kind) or not is_dataclass(kind):
            raise UserError(f"{kind.__name__} has no @dataclass(frozen=True) of its own: add it")
        if kind.build is RunConfig.build:
            raise UserError(f"{kind.__name__} does not say how it is built: give it build(parts)")
        self[name] = kind

    def take(self, word: str) -> str:
        """The name in `name` or `name=module:Class`, which is imported and registered.

        Raises:
            UserError: It cannot be.
        """
        name, equals, path = word.partition("=")
        if equals:
            self.register(name, import_function(path, "algorithm"))
        return name

    def spelled(self, name: str) -> str:
        """How another process is told of an algorithm: by its name, where it finds it, too."""
        if name in self.own or name in self._announced or name not in self._known:
            return name
        path = import_path(self._known[name])
        return f"{name}={path}" if path else name
