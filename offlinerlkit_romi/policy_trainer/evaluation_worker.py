"""Child process of `snapshots`, run by `python -m`: evaluates until its parent closes the way."""

from __future__ import annotations

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer.snapshots import Judge, Reply, Weights, evaluate
from offlinerlkit_romi.system.child import Parent


def main() -> None:
    """Take a recipe, then serve (number, weights)."""
    parent = Parent()
    judge = parent.receive().judge()
    while True:
        parent.send(_reply(judge, *parent.receive()))


def _reply(judge: Judge, number: int, weights: Weights) -> Reply:
    try:
        return evaluate(judge, number, weights)
    except UserError as error:
        return Reply(0.0, complaint=str(error))
    except Exception as error:
        return Reply(0.0, failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
