"""One environment in one episode, whichever generation of gym it speaks."""

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

FloatArray = NDArray[np.floating[Any]]
RUNAWAY_STEPS = 100_000


class Episode:
    """Runs episodes of one environment and adds up the return.

    Both dialects are understood: Gymnasium's (``reset(seed=) -> (obs, info)``, five values a step)
    and old gym's (``seed(s)``, ``reset() -> obs``, four values a step). An environment that can be
    seeded in neither way is run unseeded, so its episodes do not repeat.
    """

    def __init__(self, env: Any, max_steps: int | None):
        self.env = env
        self.max_steps = _time_limit(env) if max_steps is None else max_steps
        self._seed_method = callable(getattr(env, "seed", None))
        self._seed_argument = _takes_seed(env.reset)

    def reset(self, seed: int) -> None:
        """Start an episode."""
        if self._seed_method:
            self.env.seed(seed)
            result = self.env.reset()
        else:
            result = self.env.reset(seed=seed) if self._seed_argument else self.env.reset()
        # A two-tuple ending in a dict is Gymnasium's; an observation is never that.
        new = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        self.obs: FloatArray = np.asarray(result[0] if new else result)
        self.total, self.length, self.done = 0.0, 0, False

    def step(self, action: FloatArray) -> None:
        """Take one step; the time limit ends the episode like anything else.

        Raises:
            UserError: No time limit is known and the episode does not end.
        """
        result = self.env.step(action)
        self.obs = np.asarray(result[0])
        self.total += float(result[1])
        self.length += 1
        ended = any(result[2:4]) if len(result) == 5 else bool(result[2])
        self.done = ended or self.length == self.max_steps
        if not self.done and self.length >= RUNAWAY_STEPS and self.max_steps is None:
            raise UserError(
                f"an evaluation episode has not ended after {RUNAWAY_STEPS} steps and its "
                "environment has no time limit: pass max_episode_steps to Evaluator"
            )


def _time_limit(env: Any) -> int | None:
    limit = getattr(env, "_max_episode_steps", None)
    return limit or getattr(getattr(env, "spec", None), "max_episode_steps", None)


def _takes_seed(reset: Any) -> bool:
    parameters = inspect.signature(reset).parameters.values()
    return any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)
