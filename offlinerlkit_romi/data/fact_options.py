"""The facts about data of the user's own that `train` takes, as options of the `data` commands."""

import argparse
from typing import Any

from offlinerlkit_romi.data.card import FLAGS


def add_bounds(command: argparse.ArgumentParser) -> None:
    """Add `--action-bounds`."""
    command.add_argument(
        "--action-bounds",
        nargs=2,
        type=float,
        metavar=("LOWEST", "HIGHEST"),
        help="your own data: lowest and highest action (default: the card's, the simulator's, or "
        "what the actions suggest)",
    )


def add_facts(command: argparse.ArgumentParser) -> None:
    """Add all facts that `train` takes."""
    add_bounds(command)
    command.add_argument("--env", help="your own data: its simulator, see `train`")
    command.add_argument("--termination", help="your own data: when an episode ends, see `train`")
    command.add_argument("--reward-fn", help="your own data: its reward function, see `train`")


def facts_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The facts that were told."""
    told = {name: getattr(arguments, name) for name in FLAGS}
    return {name: value for name, value in told.items() if value is not None}


def as_words(facts: dict[str, Any]) -> str:
    """Facts as they stand on a command line, with a space before each."""
    words = ""
    for name, value in facts.items():
        shown = value if isinstance(value, str) else " ".join(f"{x:g}" for x in value)
        words += f" --{name.replace('_', '-')} {shown}"
    return words
