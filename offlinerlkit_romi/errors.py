"""Exceptions that are no bugs: the input is wrong, training diverged, or someone stopped it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: one line that names the cause, the place and the remedy.

    The command line prints the message alone and exits with status 2; a traceback is for bugs.

    Args:
        cause: What is wrong and where; or the whole line, where nobody wants a part of it.
        remedy: What to do about it.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}: {remedy}" if remedy else cause)
        self.cause, self.remedy = cause, remedy


class DivergedError(UserError):
    """Training diverged: what, since when and what to try, in one line; exit status 3."""


class TrainingInterrupted(KeyboardInterrupt):
    """Stopped by a signal where `--resume` can go on; exit status 75 on the command line."""


class StopTraining(Exception):
    """Raised by a callback to end the run well, with the reason; exit status 0.

    The epoch under way is finished and evaluated first, so that the last score is the saved
    policy's. The state is saved: `resume=` goes on.
    """


def shown(value: object) -> str:
    """A value as it stands in a message: its repr, on one line and not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def reason_of(error: BaseException) -> str:
    """What a library or the user's own code says was wrong, as part of a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def nearest(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """The names that a misspelt one may have meant, however its letters are cased; best first."""
    names = {str(k).lower(): str(k) for k in known}
    return [names[near] for near in get_close_matches(name.lower(), names, count, cutoff)]


def unknown_name(
    what: str,
    name: str,
    known: Iterable[str],
    prefix: str = "",
    remedy: str = "--help lists them all",
) -> str:
    """The message for a name that is not known: the nearest ones, then the remedy."""
    names = list(map(str, known))
    near = [prefix + found for found in nearest(name, names)]
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    if len(names) <= 12:
        remedy = f"choose from {', '.join(prefix + n for n in names)}"
    return f"unknown {what} {prefix + name!r}: {guess}{remedy}"
