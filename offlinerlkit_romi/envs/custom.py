"""A task of the user's own: what its data and its card say of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs import minari
from offlinerlkit_romi.envs.functions import Function, import_function, is_path, name_of
from offlinerlkit_romi.envs.tasks import Task
from offlinerlkit_romi.errors import UserError, reason_of

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class CustomTask(Task):
    """A task with bounds, functions and a simulator of the user's.

    `env_id` is "" without a simulator, `ref_min` and `ref_max` are NaN without a score scale,
    `max_episode_steps` is 0 where no time limit is known, `termination` is "" where no rule is.

    Attributes:
        action_low: Lowest action (A,), in the user's units. The data and the policy use [-1, 1].
        action_high: Highest action (A,).
        ref_env: The environment whose returns `ref_min` and `ref_max` are; "" where nobody says.
        reward_fn: Name of the known reward function, "" without one.
        functions: The functions themselves where they were given as such, by the field's name.
    """

    family: str = "custom"
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    reward_fn: str = ""
    ref_env: str = ""
    functions: tuple[tuple[str, Callable[..., Any]], ...] = ()

    @property
    def has_scores(self) -> bool:
        """Whether returns can be put on a scale."""
        return bool(np.isfinite(self.ref_max - self.ref_min))

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest action (A,) float64."""
        return np.asarray(self.action_low, np.float64), np.asarray(self.action_high, np.float64)

    @property
    def scales_actions(self) -> bool:
        """Whether the user's units differ from the policy's."""
        low, high = self.bounds
        return bool((low != -1).any() or (high != 1).any())

    def to_user(self, actions: Any) -> Any:
        """Actions (..., A) in [-1, 1] in the user's units; numpy or tensor, as given."""
        if not self.scales_actions:
            return actions
        low, high = self.bounds
        if not _is_tensor(actions):
            actions = np.asarray(actions)
            return (low + (actions + 1) * (0.5 * (high - low))).astype(actions.dtype)
        base, half = _scale_on(self.action_low, self.action_high, actions.device, actions.dtype)
        return base + (actions + 1) * half

    def to_policy(self, actions: Floats) -> Floats:
        """Actions (..., A) in the user's units as the policy's, float64, inside [-1, 1]."""
        low, high = self.bounds
        scaled: Floats = 2 * (np.asarray(actions, np.float64) - low) / (high - low) - 1
        return scaled.clip(-1.0, 1.0)

    def make_env(self, **options: Any) -> Any:
        """Make the simulator, which takes actions in [-1, 1].

        Raises:
            UserError: There is none, or making it failed.
        """
        env = make_user_env(dict(self.functions).get("env") or self.env_id, **options)
        return UserUnits(env, self) if self.scales_actions else env

    def termination_rule(self) -> Callable[..., Any] | None:
        """A function of the user's (obs, act, next_obs) in the user's units; None without one."""
        return self._function("termination", self.termination, boolean=True)

    def reward_function(self) -> Callable[..., Any] | None:
        """The known reward (obs, act, next_obs) -> (n, 1); None without one."""
        return self._function("reward_fn", self.reward_fn, boolean=False)

    def _function(self, field: str, text: str, *, boolean: bool) -> Callable[..., Any] | None:
        function = dict(self.functions).get(field)
        if function is None and not is_path(text):
            return None
        found = function

        def call(obs: Any, act: Any, next_obs: Any) -> Any:
            nonlocal found
            if found is None:  # not before it is needed: a loaded policy acts without it
                found = import_function(text, field)
            result = found(obs, self.to_user(act), next_obs)
            return _column(result, obs, f"{field} {text}", boolean)

        return call


@cache
def _scale_on(low: tuple[float, ...], high: tuple[float, ...], device: Any, dtype: Any) -> Any:
    """Lowest action and half the range, (A,) tensors, copied to a device once.

    No capture survives a copy from the host, and a captured graph goes on reading these.
    """
    import torch

    with torch.inference_mode(False):  # made there they could never serve a gradient
        base = torch.tensor(low, dtype=torch.float64)
        half = 0.5 * (torch.tensor(high, dtype=torch.float64) - base)
        return base.to(device, dtype), half.to(device, dtype)


def _is_tensor(value: Any) -> bool:
    """Without torch, which a process that only simulates does not load."""
    return hasattr(value, "requires_grad")


def _column(result: Any, obs: Any, what: str, boolean: bool) -> Any:
    """What a function of the user's returned as (n, 1), of the kind of `obs`."""
    n, value = len(obs), result
    if _is_tensor(obs):
        import torch

        value = torch.as_tensor(result, device=obs.device)
        value = value if boolean else value.to(obs.dtype)
    else:
        value = np.asarray(result)
    good = not boolean or str(value.dtype).endswith("bool")
    if tuple(value.shape) not in ((n,), (n, 1)) or not good:
        raise UserError(
            f"{what} returned {value.dtype} of shape {tuple(value.shape)} for {n} transitions: "
            f"it must return ({n},) or ({n}, 1) {'booleans' if boolean else 'numbers'}"
        )
    return value.reshape(n, 1)


class _Around:
    """Whatever it wraps, but for what subclasses do in the user's units."""

    def __init__(self, wrapped: Any, task: CustomTask):
        self.wrapped, self.task = wrapped, task

    def __getattr__(self, name: str) -> Any:
        if name in ("wrapped", "task"):  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.wrapped, name)


class UserUnits(_Around):
    """An environment that takes actions in [-1, 1] and hands them on in the user's units."""

    def step(self, action: Floats) -> Any:
        """Take one step."""
        return self.wrapped.step(self.task.to_user(action))


class InUserUnits(_Around):
    """A trained policy that takes and gives the user's units; everything else is the policy's."""

    @property
    def policy(self) -> Any:
        """The policy itself, which acts in [-1, 1]."""
        return self.wrapped

    def select_action(self, obs: Any, deterministic: bool = False) -> Any:
        """Actions (n, A) between the task's bounds for raw observations (n, S), or one for one."""
        return self.task.to_user(self.wrapped.select_action(obs, deterministic=deterministic))


def make_user_env(env: Function, **options: Any) -> Any:
    """An environment from a function, ``module:function``, a Gymnasium id or ``minari:ID``.

    Raises:
        UserError: It cannot be made.
    """
    if not env:
        raise UserError("there is no simulator: give env, a Gymnasium id or module:function")
    name = name_of(env)
    if isinstance(env, str):
        if env.startswith(minari.PREFIX):
            return minari.recover_env(env, **options)
        # Gymnasium's own ids may hold a module too: package:Name-v0
        env = (
            import_function(env, "env") if is_path(env) else partial(gymnasium_env, env, **options)
        )
    try:
        return env()
    except UserError:
        raise
    except Exception as error:  # the user's code, or Gymnasium's many kinds
        raise UserError(
            f"env {name!r} cannot be made ({reason_of(error)}): give a Gymnasium id "
            "that is installed here, or module:function that returns an environment"
        ) from error


def gymnasium_env(env_id: str, **options: Any) -> Any:
    """Gymnasium's environment of this id, with its time limit.

    Raises:
        UserError: Gymnasium is missing.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise UserError(
            f"env {env_id!r} needs the package gymnasium: pip install 'gymnasium[mujoco]'"
        ) from error
    with warnings.catch_warnings():
        # Gymnasium recommends -v5 whenever -v4 is made; other warnings stay audible.
        warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
        return gymnasium.make(env_id, disable_env_checker=True, **options)


def task_record(task: CustomTask) -> dict[str, Any]:
    """Plain values from which `task_from_record` makes the task again, NaN as None."""
    return {name: _plain(getattr(task, name)) for name in (*_RECORDED, "ref_env")}


def task_from_record(record: Mapping[str, Any]) -> CustomTask:
    """The task a run was trained on.

    Raises:
        UserError: The record is damaged.
    """
    try:
        values = {name: record[name] for name in _RECORDED}
        values["ref_env"] = record.get("ref_env", "")  # runs of earlier versions do not say
        for name in ("ref_min", "ref_max"):
            values[name] = float("nan") if values[name] is None else float(values[name])
        for name in ("action_low", "action_high"):
            values[name] = tuple(float(x) for x in values[name])
        return CustomTask(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the run's record of its task is damaged: {error!r}") from error


_RECORDED = (
    *("name", "env_id", "obs_dim", "action_dim", "ref_min", "ref_max", "max_episode_steps"),
    *("termination", "action_low", "action_high", "reward_fn", "family"),
)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and np.isnan(value) else value
