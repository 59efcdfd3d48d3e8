"""Child process of `snapshots`, run by `python -m`: evaluates until its parent closes the way."""

from __future__ import annotations

import time

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer.snapshots import Answer, Judge, Weights
from offlinerlkit_romi.system.child import Parent


def main() -> None:
    """Take a recipe, then serve (number, weights)."""
    parent = Parent()
    judge = parent.receive().judge()
    while True:
        parent.send(_answer(judge, *parent.receive()))


def _answer(judge: Judge, number: int, weights: Weights) -> Answer:
    start = time.perf_counter()
    try:
        scores = judge(number, weights)
    except UserError as error:
        return str(error)
    except Exception:  # the parent tries it itself, where a traceback tells more
        return None
    return scores, time.perf_counter() - start


if __name__ == "__main__":
    main()
