"""What is going to leave the public interface says so for one version."""

from __future__ import annotations

from typing_extensions import deprecated as _marked


def deprecated(name: str, since: str, instead: str) -> _marked:
    """A decorator for a function or a class that the next minor version will not have.

    Args:
        name: What it is called.
        since: The version that marks it.
        instead: What to use in its place.

    Returns:
        It makes a call, or the making of an instance, warn where it stands (`DeprecationWarning`,
        which Python shows for the script that is run, and pytest for tests).
    """
    return _marked(f"{name} goes after version {since}: use {instead}")
