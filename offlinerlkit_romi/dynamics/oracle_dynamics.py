"""The true simulator in the model's place: what fails on it is not the model's fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.dynamics.ensemble_dynamics import BaseDynamics, StepResult, TerminalFn
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.scaler import StandardScaler

Array = NDArray[np.float64]


class MujocoOracleDynamics(BaseDynamics):
    """Steps MuJoCo from states rebuilt from observations, all rows at once in C (the kit's name).

    An observation of HalfCheetah, Hopper or Walker2d is the whole state but x, on which nothing
    depends, so the next observation equals the simulator's own to rounding (Hopper: 2e-15), save
    where Hopper's or Walker2d's velocities were cut at 10 when they were observed.

    Args:
        env: One of these simulators of gymnasium's, `-v4`; wrappers are taken off.
        terminal_fn: rule (obs, action, next_obs) of raw observations -> (n, 1) bool; by default
            nothing ends.
        scaler: standardises the observations that `sample_step` takes and returns; none means raw
            ones.
        threads: how many rows are simulated at a time.
        reward_map: what rewards are multiplied by, and what is added.

    Raises:
        UserError: the state of this simulator cannot be rebuilt from its observations.
    """

    learns = False

    def __init__(
        self,
        env: Any,
        terminal_fn: TerminalFn | None = None,
        scaler: StandardScaler | None = None,
        threads: int = 1,
        reward_map: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        import mujoco
        from mujoco.rollout import Rollout

        self.env = env = env.unwrapped
        known = hasattr(env, "_forward_reward_weight")
        state = env.model.nq + env.model.nv if known else 0
        observed = env.observation_space.shape[0]
        if observed not in (state, state - 1):
            raise UserError(
                f"{type(env).__name__}: its state cannot be rebuilt from an observation; the true "
                "simulator stands in for the model of HalfCheetah, Hopper and Walker2d only"
            )
        self._hidden = state - observed  # x, where it is not observed
        self._bound = 10.0 if hasattr(env, "_healthy_z_range") else np.inf
        self._terminal_fn = terminal_fn
        self._scaler = scaler
        self._reward_map = reward_map
        self._simulate = Rollout(nthread=threads if threads > 1 else 0).rollout
        self._data = [mujoco.MjData(env.model) for _ in range(threads)]

    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> StepResult:
        """One true step of every row, (n, S), (n, A) -> as `EnsembleDynamics.sample_step`."""
        raw = obs if self._scaler is None else self._scaler.inverse_transform_tensor(obs)
        arrays = (x.detach().cpu().numpy().astype(np.float64) for x in (raw, action))
        next_raw, reward, terminal = self._step(*arrays)
        following = torch.as_tensor(next_raw, dtype=obs.dtype, device=obs.device)
        if self._scaler is not None:
            following = self._scaler.transform_tensor(following)
        rewards = torch.as_tensor(reward, dtype=obs.dtype, device=obs.device)
        ends = torch.as_tensor(terminal, device=obs.device)
        return following, rewards, ends, {"raw_reward": rewards}

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One true step of raw observations, (n, S), (n, A), or of one, (S,), (A,), as the kit."""
        rows = np.atleast_2d(np.asarray(obs, np.float64)), np.atleast_2d(np.asarray(action, float))
        next_obs, reward, terminal = self._step(*rows)
        if np.ndim(obs) == 1:
            return next_obs[0], reward[0, 0], terminal[0, 0], {}
        return next_obs, reward, terminal, {}

    def expected_next(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The next observation, (n, S), (n, A) -> (n, S)."""
        return self.sample_step(obs, action)[0]

    def save(self, save_path: str) -> None:
        """Nothing was learned, nothing is written."""

    def load(self, load_path: str) -> None:
        """Nothing was learned, nothing is read."""

    def _step(self, obs: Array, action: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Raw observations (n, S) and actions (n, A) -> next (n, S), rewards, terminals (n, 1)."""
        env, action = self.env, np.clip(action, -1.0, 1.0)
        positions = env.model.nq
        state = np.zeros((len(obs), 1 + positions + env.model.nv))  # time, qpos, qvel
        state[:, 1 + self._hidden :] = obs
        control = np.repeat(action[:, None], env.frame_skip, axis=1)  # (n, A) -> (n, frames, A)
        frames, _ = self._simulate(env.model, self._data, state, control)
        after = frames[:, -1]
        next_obs = after[:, 1 + self._hidden :].copy()
        velocities = next_obs[:, positions - self._hidden :]
        np.clip(velocities, -self._bound, self._bound, out=velocities)
        speed = (after[:, 1] - state[:, 1]) / env.dt
        reward = env._forward_reward_weight * speed + getattr(env, "_healthy_reward", 0.0)
        reward = reward - env._ctrl_cost_weight * np.square(action).sum(axis=1)
        reward = reward * self._reward_map[0] + self._reward_map[1]
        if self._terminal_fn is None:
            return next_obs, reward[:, None], np.zeros((len(obs), 1), dtype=bool)
        terminal = np.asarray(self._terminal_fn(obs, action, next_obs), dtype=bool)
        return next_obs, reward[:, None], terminal.reshape(-1, 1)
