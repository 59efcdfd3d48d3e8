"""Child process of `async_scoring`: evaluates snapshots until its input closes.

Run as `python -m offlinerlkit_romi.policy_trainer.evaluation_worker`. Messages are pickles on stdin
and stdout, between a process and its own child; whatever a simulator prints is sent to stderr, so
that it cannot break into them. A process of its own, neither a fork nor a second run of the
caller's main module, has no part in the caller's CUDA context and threads.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from typing import Any

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer.evaluation_messages import (
    Judge,
    Reply,
    Weights,
    evaluate,
    send,
)


def main() -> None:
    """Take a recipe, then serve (number, weights) until stdin closes."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    judge = messages.get().judge()
    while True:
        send(out, _reply(judge, *messages.get()))


def _listen(messages: queue.SimpleQueue[Any]) -> None:
    """Read ahead, so that the caller's end is noticed in the midst of an evaluation."""
    while True:
        try:
            messages.put(pickle.load(sys.stdin.buffer))
        except BaseException:  # whatever it is: without a caller there is nothing to do
            os._exit(0)


def _reply(judge: Judge, number: int, weights: Weights) -> Reply:
    try:
        return evaluate(judge, number, weights)
    except UserError as error:
        return Reply(0.0, complaint=str(error))
    except Exception as error:
        return Reply(0.0, failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
