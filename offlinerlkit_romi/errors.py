"""Exceptions that are no bugs: the input is wrong, training diverged, or someone stopped it."""


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
