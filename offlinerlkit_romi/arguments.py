"""The parser of every command: complaints in one line, with the nearest names."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from offlinerlkit_romi.errors import UserError, unknown_name

TRUTHS = {"true": True, "1": True, "false": False, "0": False}
WIDEST = 100  # columns of a help text
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


def whole_number(word: str) -> int:
    """An integer, however it is written: 1000, 1_000 or 1e3."""
    try:
        return int(word)
    except ValueError:
        value = number(word)
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number")
    return int(value)


def number(word: str) -> float:
    """A float."""
    try:
        return float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number") from None


class Switch(argparse.Action):
    """`--name`, `--no-name`, `--name False` or `--name=False`.

    Args:
        option_strings: `--name`; `--no-name` is added.
        dest: Where the value goes.
        meanings: The value of each word, "true" and "false" among them.
        **settings: argparse's.
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        meanings: Mapping[str, Any] = TRUTHS,
        **settings: Any,
    ) -> None:
        both = [*option_strings, *(f"--no-{name[2:]}" for name in option_strings)]
        super().__init__(both, dest, nargs="?", **settings)
        self._meanings = meanings

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store what the option and the word after it say."""
        negated = str(option_string).startswith("--no-")
        word = ("false" if negated else "true") if values is None else values.lower()
        if word not in self._meanings or (negated and values is not None):
            raise UserError(f"{option_string} is {values!r}: write True or False")
        setattr(namespace, self.dest, self._meanings[word])


class Parser(argparse.ArgumentParser):
    """argparse with its complaints in one line, which name the nearest of what there is.

    Args:
        prog: How the command is called.
        usage: Its usage; None for argparse's.
        description: What it does.
        lenient: `parse_known_args` hands back what is not known, as argparse does.
        **settings: argparse's.
    """

    def __init__(
        self,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        *,
        lenient: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            prog, usage, description, formatter_class=_Help, allow_abbrev=False, **settings
        )
        self._lenient = lenient
        self._negative_number_matcher = _NEGATIVE
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        """One line.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; what is not known is refused, unless the parser is lenient.

        Raises:
            UserError: An unknown flag, a word too many, a wrong value.
        """
        words = list(args or ())
        if not self._lenient and self._subparsers is None:  # whose flags are not this parser's
            for word in words:
                self._check_flag(word.partition("=")[0])
        found, rest = super().parse_known_args(words, namespace)
        if rest and not self._lenient:
            raise UserError(self._too_many(words, rest[0]))
        return found, rest

    def knows(self, flag: str) -> bool:
        """Whether it has an option of that name."""
        return flag in self._option_string_actions

    def _check_flag(self, name: str) -> None:
        if name.startswith("--") and not self.knows(name):
            known = [flag[2:] for flag in self._option_string_actions if flag.startswith("--")]
            raise UserError(unknown_name("flag", name[2:], known, prefix="--"))

    def _too_many(self, words: Sequence[str], extra: str) -> str:
        """What to say of a word that no option takes."""
        starts = [i for i, word in enumerate(words) if word.startswith("--")]
        for start, end in zip(starts, [*starts[1:], len(words)], strict=False):
            flag, values = words[start], words[start + 1 : end]
            if extra in values[1:]:
                told = " ".join(values)
                plural = f"did you mean {flag}s {told}? " if self.knows(f"{flag}s") else ""
                return f"{flag} takes one value, not {told}: {plural}see `{self.prog} --help`"
        return f"{extra!r} is a word too many; see `{self.prog} --help`"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            what = f"{self.prog.split()[-1]} command"
        else:
            what = f"value of {'/'.join(action.option_strings) or action.dest}"
        raise UserError(unknown_name(what, str(value), action.choices))


class _Help(argparse.RawDescriptionHelpFormatter):
    """Every text is wrapped once: paragraphs are filled, indented lines hang, commands stay."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, WIDEST) - 2
        super().__init__(prog, max_help_position=26, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.strip("\n").splitlines():
            goes_on = lines and line and lines[-1] and not line[0].isspace()
            if goes_on and not lines[-1][0].isspace():
                lines[-1] += f" {line}"
            else:
                lines.append(line)
        return "\n".join(self._wrapped(line, width, indent) for line in lines) + "\n"

    def _wrapped(self, line: str, width: int, indent: str) -> str:
        words = line.lstrip()
        if words.startswith(("offlinerlkit-romi", "--")):
            return line  # to be copied
        hanging = " " * (len(line) - len(words) + 2) if words != line else indent
        line = indent + line if words == line else line
        return "\n".join(_wrap(line, width, subsequent_indent=hanging))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(" ".join(text.split()), width)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        silent = default in (None, argparse.SUPPRESS, []) or default is False
        told = text is None or "default:" in text
        return text if silent or told else f"{text} (default: %(default)s)"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, Switch):
            return ", ".join(action.option_strings)
        return super()._format_action_invocation(action)


def _wrap(text: str, width: int, **settings: Any) -> list[str]:
    """Lines in which names, flags and places stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, **settings)
