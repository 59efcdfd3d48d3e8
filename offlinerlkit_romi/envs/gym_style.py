"""A task's simulator behind the interface the kit's scripts expect: old gym with D4RL's additions.

A kit script runs without `gym` and `d4rl` where it imports them from here:

    from offlinerlkit_romi.envs import gym_style as gym
    from offlinerlkit_romi.utils import load_dataset as d4rl
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.make import make_env
from offlinerlkit_romi.envs.scores import normalized_score
from offlinerlkit_romi.envs.tasks import Task, get_task

FloatArray = NDArray[np.floating[Any]]


class GymStyleEnv:
    """What ``gym.make("hopper-medium-v2")`` with D4RL installed used to return.

    Attributes:
        task: The task.
        env: The Gymnasium environment underneath.
        observation_space: Gymnasium's space, (S,).
        action_space: Gymnasium's space, (A,), bounds -1 and 1.
    """

    def __init__(self, task: Task | str):
        self.task = get_task(task) if isinstance(task, str) else task
        self.env = make_env(self.task)
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space
        self._max_episode_steps = self.task.max_episode_steps
        self._seed: int | None = None

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed the next reset, and the sampling of the action space."""
        self._seed = seed
        self.action_space.seed(seed)
        return [seed]

    def reset(self) -> FloatArray:
        """Start an episode and return its first observation (S,)."""
        seed, self._seed = self._seed, None
        obs, _ = self.env.reset(seed=seed)
        return obs

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, dict[str, Any]]:
        """Take one step: observation (S,), reward, done, info.

        As in old gym, ``info["TimeLimit.truncated"]`` tells a cut episode from a finished one.
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        if truncated:
            info = {**info, "TimeLimit.truncated": not terminated}
        return obs, float(reward), bool(terminated or truncated), info

    def get_normalized_score(self, score: float) -> float:
        """Return the score of a return as D4RL does: 0 random, 1 expert (not 100)."""
        return normalized_score(float(score), self.task) / 100.0

    def get_dataset(self, **options: Any) -> dict[str, NDArray[Any]]:
        """Return the task's transitions under D4RL's keys, next observations among them.

        Every row's next observation is its own episode's, so none has to be left out for a time
        limit. Which data these are is said in a warning unless they are D4RL's own.

        Args:
            **options: Passed to `data.load`; by default D4RL's file where it can be had.

        Returns:
            Arrays (n, S), (n, A), and (n,) for rewards, terminals and timeouts.

        Raises:
            UserError: See `data.load`.
        """
        from offlinerlkit_romi import data

        found = data.load(self.task.name, **options)
        if found.info.source != "d4rl":
            warnings.warn(f"{self.task.name}: {'; '.join(found.info.notes)}", stacklevel=2)
        flat = {"rewards": found.rewards.reshape(-1), "terminals": found.terminals.reshape(-1)}
        return found.as_dict() | flat | {"timeouts": np.zeros(len(found), dtype=bool)}

    def close(self) -> None:
        """Close the simulator."""
        self.env.close()


def make(task: Task | str) -> GymStyleEnv:
    """Return the task's environment, as `gym.make` does where D4RL is imported.

    Raises:
        UserError: Unknown task, or no simulator installed.
    """
    return GymStyleEnv(task)
