"""A hopper that is none, in old gym's and gymnasium's dialect, and modules to import it from.

What OfflineRL-Kit's scripts ask of `gym` and `d4rl`: `gym.make(task)`, `env.seed`, spaces,
`env.get_dataset`, `env.get_normalized_score`, and `d4rl.qlearning_dataset(env)`.
"""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

OBS_DIM, ACTION_DIM, LIMIT, ROWS = 11, 3, 7, 140
UPRIGHT = np.r_[1.25, np.zeros(OBS_DIM - 1)]


class _Hopper:
    """Wobbles about the upright pose; an episode is cut after seven steps."""

    _max_episode_steps = LIMIT

    def __init__(self) -> None:
        self.observation_space = SimpleNamespace(shape=(OBS_DIM,))
        high = np.ones(ACTION_DIM, np.float32)
        self.action_space = SimpleNamespace(shape=(ACTION_DIM,), low=-high, high=high)
        self.seeds: list[int | None] = []
        self._rng = np.random.default_rng(0)
        self._steps = 0

    def seed(self, seed: int | None = None) -> None:
        self.seeds.append(seed)
        self._rng = np.random.default_rng(seed)

    def get_normalized_score(self, value: float) -> float:
        return (value + 20.0) / 3250.0

    def get_dataset(self) -> dict[str, np.ndarray]:
        """D4RL's arrays: whole episodes, rows (ROWS, ...), rewards (ROWS,)."""
        rng = np.random.default_rng(1)
        obs = UPRIGHT + 0.05 * rng.standard_normal((ROWS, OBS_DIM))
        ends = np.arange(1, ROWS + 1) % LIMIT == 0
        following = np.roll(obs, -1, axis=0)
        following[ends] = UPRIGHT
        return {
            "observations": obs.astype(np.float32),
            "actions": rng.uniform(-0.9, 0.9, (ROWS, ACTION_DIM)).astype(np.float32),
            "next_observations": following.astype(np.float32),
            "rewards": rng.standard_normal(ROWS).astype(np.float32),
            "terminals": ends & (np.arange(ROWS) % 2 == 0),
            "timeouts": ends & (np.arange(ROWS) % 2 == 1),
        }

    def _begin(self) -> np.ndarray:
        self._steps = 0
        return UPRIGHT + 0.05 * self._rng.standard_normal(OBS_DIM)

    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        assert np.shape(action) == (ACTION_DIM,)
        self._steps += 1
        obs = UPRIGHT + 0.05 * self._rng.standard_normal(OBS_DIM)
        return obs, 1.0 - 0.1 * float(np.square(action).sum()), self._steps == LIMIT


class OldGymHopper(_Hopper):
    """`reset() -> obs`, four values a step."""

    def reset(self) -> np.ndarray:
        return self._begin()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        return *self._advance(action), {}


class GymnasiumHopper(_Hopper):
    """`reset(seed=) -> (obs, info)`, five values a step."""

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.seed(seed)
        return self._begin(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, cut = self._advance(action)
        return obs, reward, False, cut, {}


DIALECTS: dict[str, type[_Hopper]] = {"gym": OldGymHopper, "gymnasium": GymnasiumHopper}


def put_in_place(hopper: type[_Hopper], installed: Callable[..., None]) -> None:
    """From here on `import gym` and `import d4rl` find modules that know this hopper alone."""
    gym, d4rl = ModuleType("gym"), ModuleType("d4rl")
    vars(gym)["make"] = lambda task: hopper()
    vars(d4rl)["qlearning_dataset"] = _qlearning_dataset
    installed(gym=gym, d4rl=d4rl)


def _qlearning_dataset(env: Any) -> dict[str, np.ndarray]:
    """As D4RL's: no rows at a time limit."""
    data = env.get_dataset()
    keep = ~data.pop("timeouts")
    return {name: rows[keep] for name, rows in data.items()}
