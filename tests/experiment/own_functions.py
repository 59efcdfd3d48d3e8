"""What a user would write in a module of their own: a simulator, a rule, a reward."""

from typing import Any, ClassVar

import numpy as np

LOW, HIGH = np.array([0.0, -3.0]), np.array([10.0, 3.0])


class Box:
    """A space as gym has it, without gym."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high, self.shape = low, high, low.shape
        self.dtype = np.dtype(np.float32)


class Tank:
    """Two levels that drift with the action; an episode ends above 8 and rewards are known."""

    taken: list[np.ndarray]

    def __init__(self) -> None:
        Tank.taken = []
        self.observation_space = Box(np.full(2, -np.inf), np.full(2, np.inf))
        self.action_space = Box(LOW, HIGH)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.rng = np.random.default_rng(seed)
        self.state = self.rng.normal(size=2)
        return self.state.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        Tank.taken.append(np.array(action))
        before = self.state
        self.state = 0.9 * before + 0.1 * np.array([action[0] - 5, action[1]])
        return self.state.copy(), reward_of(before, action, self.state), False, False, {}


def make_tank() -> Tank:
    return Tank()


class DrawnTank(Tank):
    """One that can be filmed, 100 steps a second."""

    metadata: ClassVar = {"render_fps": 100}

    def render(self) -> np.ndarray:
        return np.full((32, 48, 3), 8 * len(Tank.taken), np.uint8)


def make_drawn_tank() -> DrawnTank:
    return DrawnTank()


def make_short_tank() -> Tank:
    env = Tank()
    env._max_episode_steps = 3  # type: ignore[attr-defined]
    return env


def reward_of(obs: Any, act: Any, next_obs: Any) -> Any:
    return -(next_obs[..., 0] ** 2) - 0.01 * act[..., 0]


def full(obs: Any, act: Any, next_obs: Any) -> Any:
    """Reads state and action in the user's units."""
    return (next_obs[:, :1] > 8) | (act[:, :1] > 9.99)


def episodes(count: int = 12, steps: int = 30, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """A log of random actions."""
    env, rng, log = Tank(), np.random.default_rng(seed), []
    for i in range(count):
        states, actions, rewards = [env.reset(seed=i)[0]], [], []
        for _ in range(steps):
            actions.append(rng.uniform(LOW, HIGH))
            state, reward, *_ = env.step(actions[-1])
            states.append(state)
            rewards.append(reward)
        terminals = np.zeros(steps, bool)
        log.append(
            {
                "observations": np.array(states),
                "actions": np.array(actions),
                "rewards": np.array(rewards),
                "terminals": terminals,
            }
        )
    return log
