"""Evaluation: whole episodes side by side, one call of the actor per step for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.episodes import Episode, FloatArray
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.errors import UserError


class SelectsActions(Protocol):
    """Whatever can be evaluated."""

    def select_action(self, obs: Any, deterministic: bool = ...) -> Any:
        """Return actions (n, A) for observations (n, S)."""


@dataclass(frozen=True)
class EvalResult:
    """What the episodes of one evaluation came to.

    Attributes:
        returns: Undiscounted return of each episode (n,).
        lengths: Steps of each episode (n,).
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class Evaluator:
    """Evaluates policies on environments of its own.

    Episode `i` of call `c` starts from a state that depends on (`seed`, `c`, `i`) alone: two
    evaluators with one seed agree call by call, whatever the policies did before. The call number
    is the only state; save it with `state_dict` to resume exactly.

    Args:
        env: A task or its name; or a function that makes an environment, called once per episode;
            or one environment, whose episodes then run one after the other.
        episodes: Number of episodes per call.
        seed: Base of the episodes' seeds.
        max_episode_steps: Time limit in steps. Default: the task's, else the environment's own,
            else none.

    Raises:
        UserError: Unknown task, no environment, fewer than one episode, a negative seed.
    """

    def __init__(
        self,
        env: Task | str | Callable[[], Any] | Any,
        episodes: int = 10,
        seed: int = 0,
        *,
        max_episode_steps: int | None = None,
    ):
        if episodes < 1 or seed < 0:
            raise UserError(
                f"evaluation of {episodes} episodes with seed {seed}: give at least one episode "
                "and a seed that is not negative"
            )
        task = get_task(env) if isinstance(env, str) else env
        self.episodes, self.seed, self.calls = episodes, seed, 0
        self._clip = isinstance(task, Task)
        self._limit = max_episode_steps
        self._factory: Callable[[], Any] | None = None
        self._given: Episode | None = None
        self._own: list[Episode] = []
        if isinstance(task, Task):
            self._factory = partial(make_bare_env, task, seed)
            self._limit = max_episode_steps or task.max_episode_steps or None
        elif hasattr(task, "step") and not isinstance(task, type):
            self._given = Episode(task, max_episode_steps)
        elif callable(task):
            self._factory = task
        else:
            raise UserError(
                f"cannot evaluate on {task!r}: give a task's name, an environment, "
                "or a function that makes one"
            )

    def __call__(self, policy: SelectsActions) -> EvalResult:
        """Run the episodes with ``policy.select_action(obs (n, S), deterministic=True)``.

        Episodes that have ended leave the batch, so n shrinks; a matrix product may round by the
        size of the batch, so a network's returns are equal to those of another number of episodes
        in distribution only. The policy's train or eval mode is the caller's.

        Raises:
            UserError: An action is not finite or not of shape (n, A).
        """
        seeds = self._seeds()
        if self._given is not None:
            outcomes = [self._run(policy, [self._given], [seed], i) for i, seed in enumerate(seeds)]
            result = _joined(outcomes)
        else:
            result = self._run(policy, self._lanes(), seeds, 0)
        self.calls += 1
        return result

    def state_dict(self) -> dict[str, int]:
        """Return what the next call depends on besides the arguments: the call number."""
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the calls counted by `state_dict`."""
        self.calls = int(state["calls"])

    def close(self) -> None:
        """Close the environments this evaluator made; one that was given stays open."""
        for episode in self._own:
            close = getattr(episode.env, "close", None)
            if callable(close):
                close()
        self._own = []

    def __enter__(self) -> "Evaluator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _seeds(self) -> list[int]:
        # 31 bits: old gym refuses more. A longer evaluation starts with the seeds of a shorter one.
        keys = [np.random.SeedSequence([self.seed, self.calls, i]) for i in range(self.episodes)]
        return [int(key.generate_state(1)[0]) >> 1 for key in keys]

    def _lanes(self) -> list[Episode]:
        assert self._factory is not None
        while len(self._own) < self.episodes:
            self._own.append(Episode(self._factory(), self._limit))
        return self._own

    def _run(
        self, policy: SelectsActions, lanes: list[Episode], seeds: list[int], first: int
    ) -> EvalResult:
        for episode, seed in zip(lanes, seeds, strict=True):
            episode.reset(seed)
        running = list(lanes)
        while running:
            obs = np.stack([episode.obs for episode in running])
            actions = _checked(policy.select_action(obs, deterministic=True), running)
            if self._clip:
                actions = actions.clip(-1.0, 1.0)
            for episode, action in zip(running, actions, strict=True):
                episode.step(action)
            running = [episode for episode in running if not episode.done]
        return EvalResult(
            np.array([episode.total for episode in lanes], np.float64),
            np.array([episode.length for episode in lanes], np.int64),
        )


def _checked(actions: Any, running: list[Episode]) -> FloatArray:
    actions = np.asarray(actions)
    if actions.ndim != 2 or len(actions) != len(running):
        raise UserError(
            f"the policy's select_action returned shape {actions.shape} for {len(running)} "
            f"observations: it must return ({len(running)}, action_dim)"
        )
    if not np.isfinite(actions).all():
        raise UserError(
            f"the policy's action is NaN or infinite at step {running[0].length} of evaluation: "
            "its weights have probably diverged; go back to an earlier checkpoint or lower the "
            "learning rates"
        )
    return actions


def _joined(results: list[EvalResult]) -> EvalResult:
    return EvalResult(
        np.concatenate([result.returns for result in results]),
        np.concatenate([result.lengths for result in results]),
    )
