"""Exceptions that are no bugs: the input is wrong, training diverged, or someone stopped it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: one line that names the cause, the place and the remedy.

    The command line prints the message alone and exits with status 2; a traceback is for bugs.
    """


class DivergedError(UserError):
    """Training diverged: what, since when and what to try, in one line; exit status 3."""


class TrainingInterrupted(KeyboardInterrupt):
    """Stopped by a signal where `--resume` can go on; exit status 75 on the command line."""


def shown(value: object) -> str:
    """A value as it stands in a message: its repr, on one line and not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def unknown_name(
    what: str,
    name: str,
    known: Iterable[str],
    prefix: str = "",
    remedy: str = "--help lists them all",
) -> str:
    """The message for a name that is not known: the nearest ones, then the remedy."""
    names = {str(k).lower(): str(k) for k in known}
    near = [prefix + names[n] for n in get_close_matches(name.lower(), names, n=3, cutoff=0.5)]
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    if len(names) <= 12:
        remedy = f"choose from {', '.join(prefix + n for n in names.values())}"
    return f"unknown {what} {prefix + name!r}: {guess}{remedy}"
