"""When an episode ends inside a learned model.

A rule takes ``(obs, act, next_obs)``, each (..., S) or (..., A) and *not* normalised, and returns
(..., 1) bool: tensors give a tensor on their device, numpy gives numpy. Rules read the next state
alone, copy nothing to the host and can be captured in a CUDA graph.

The formulas are the simulators' (gym v2, Gymnasium v4) on D4RL's observations, which lack x. Two
things differ by necessity: Hopper's observation clips velocities to 10, so its clause
|velocity| < 100 shows in a model's prediction alone; and a state that is not finite,
which no simulator produces, is always terminal.

OfflineRL-Kit's rules deviate; ``compat="kit"`` gives them for comparison: its Hopper has no lower
bound at -100, its HalfCheetah and Walker2d end at |obs| >= 100. Its choice by substring (antmaze
gets the rule of ant, maze2d-open that of pen) is not offered: a task is matched by its exact name.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import torch
from numpy.typing import NDArray

from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.envs.tasks import DATASETS, TASKS, Task, canonical
from offlinerlkit_romi.errors import UserError

Array = TypeVar("Array", NDArray[Any], torch.Tensor)
Rule: TypeAlias = Callable[[Any, Any, Any], Any]


def _all(x: Any) -> Any:
    # Both libraries take numpy's keywords. (..., n) -> (..., 1)
    return x.all(axis=-1, keepdims=True)


def _all_below(x: Any, limit: float) -> Any:
    # NaN compares False, so it is below nothing.
    return _all(abs(x) < limit)


def _finite(x: Any) -> Any:
    return _all_below(x, math.inf)


def termination_fn_none(obs: Array, act: Array, next_obs: Array) -> Array:
    """Never, not even for a state that is not finite."""
    return abs(next_obs[..., 0:1]) < 0


def termination_fn_halfcheetah(obs: Array, act: Array, next_obs: Array) -> Array:
    """Never in the simulator; here for states that are not finite."""
    return ~_finite(next_obs)


def termination_fn_hopper(obs: Array, act: Array, next_obs: Array) -> Array:
    """Torso at or below 0.7, or leaning 0.2 rad, or anything but the height at +-100."""
    height, angle = next_obs[..., 0:1], next_obs[..., 1:2]
    upright = (height > 0.7) & (abs(angle) < 0.2)
    return ~(upright & _all_below(next_obs[..., 1:], 100.0) & _finite(next_obs))


def termination_fn_walker2d(obs: Array, act: Array, next_obs: Array) -> Array:
    """Torso outside (0.8, 2), or leaning 1 rad."""
    height, angle = next_obs[..., 0:1], next_obs[..., 1:2]
    upright = (height > 0.8) & (height < 2.0) & (abs(angle) < 1.0)
    return ~(upright & _finite(next_obs))


def termination_fn_neorl_hopper(obs: Array, act: Array, next_obs: Array) -> Array:
    """Hopper's rule on NeoRL's observation, whose first entry is x; velocities below 100 too."""
    height, angle = next_obs[..., 1:2], next_obs[..., 2:3]
    upright = (height > 0.7) & (abs(angle) < 0.2)
    return ~(upright & _all_below(next_obs[..., 3:], 100.0) & _finite(next_obs))


def termination_fn_neorl_walker2d(obs: Array, act: Array, next_obs: Array) -> Array:
    """Walker2d's rule on NeoRL's observation; |state| < 100 is NeoRL's own (gym has no such)."""
    height, angle = next_obs[..., 1:2], next_obs[..., 2:3]
    upright = (height > 0.8) & (height < 2.0) & (abs(angle) < 1.0)
    return ~(upright & _all_below(next_obs[..., 3:], 100.0) & _finite(next_obs))


def termination_fn_ant(obs: Array, act: Array, next_obs: Array) -> Array:
    """Torso outside [0.2, 1], bounds included; for ant-*, not for antmaze-*."""
    height = next_obs[..., 0:1]
    return ~((height >= 0.2) & (height <= 1.0) & _finite(next_obs))


def termination_fn_humanoid(obs: Array, act: Array, next_obs: Array) -> Array:
    """Torso outside [1, 2]."""
    height = next_obs[..., 0:1]
    return ~((height >= 1.0) & (height <= 2.0) & _finite(next_obs))


def termination_fn_pen(obs: Array, act: Array, next_obs: Array) -> Array:
    """Pen dropped: its height, observation 26, below 0.075."""
    return ~((next_obs[..., 26:27] >= 0.075) & _finite(next_obs))


def termination_fn_antmaze(obs: Array, act: Array, next_obs: Array) -> Array:
    """Where the goal is not known: never, but for states that are not finite. See `at_goal`."""
    return ~_finite(next_obs)


# These never end an episode by themselves either.
termination_fn_door = termination_fn_halfcheetah
termination_fn_pendulum = termination_fn_halfcheetah
termination_fn_point2denv = termination_fn_halfcheetah
termination_fn_point2dwallenv = termination_fn_halfcheetah


def _kit_halfcheetah(obs: Array, act: Array, next_obs: Array) -> Array:
    return ~_all_below(next_obs, 100.0)


def _kit_hopper(obs: Array, act: Array, next_obs: Array) -> Array:
    upright = (next_obs[..., 0:1] > 0.7) & (abs(next_obs[..., 1:2]) < 0.2)
    return ~(upright & _all(next_obs[..., 1:] < 100.0) & _finite(next_obs))


def _kit_walker2d(obs: Array, act: Array, next_obs: Array) -> Array:
    return termination_fn_walker2d(obs, act, next_obs) | ~_all_below(next_obs, 100.0)


RULES: dict[str, Rule] = {
    "none": termination_fn_none,
    "halfcheetah": termination_fn_halfcheetah,
    "hopper": termination_fn_hopper,
    "walker2d": termination_fn_walker2d,
    "neorl-hopper": termination_fn_neorl_hopper,
    "neorl-walker2d": termination_fn_neorl_walker2d,
    "ant": termination_fn_ant,
    "antmaze": termination_fn_antmaze,
    "humanoid": termination_fn_humanoid,
    "pen": termination_fn_pen,
    "door": termination_fn_door,
    "pendulum": termination_fn_pendulum,
    "point2denv": termination_fn_point2denv,
    "point2dwallenv": termination_fn_point2dwallenv,
}
KIT_RULES: dict[str, Rule] = {
    "halfcheetah": _kit_halfcheetah,
    "hopper": _kit_hopper,
    "walker2d": _kit_walker2d,
}

_MAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
_D4RL_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("halfcheetah", "hopper", "walker2d", "ant"), (*DATASETS, "full-replay")),
    (("antmaze",), _MAZES),
    (("pen", "door"), ("human", "cloned", "expert")),
)
TASK_RULES: dict[str, str] = {
    f"{family}-{dataset}-v{version}": family
    for families, datasets in _D4RL_FAMILIES
    for family in families
    for dataset in datasets
    for version in range(3)
} | {name: task.termination for name, task in TASKS.items()}


def get_termination_fn(
    task: str | Task | Rule,
    *,
    compat: str | None = None,
    guard: float | None = None,
    goal: tuple[float, float] | None = None,
) -> Rule:
    """Return the termination rule of a task.

    Args:
        task: A task or a D4RL task's exact name; the name of a rule, such as ``hopper`` or
            ``none``; or a rule of your own, a function of ``(obs, act, next_obs)``.
        compat: ``"kit"`` gives OfflineRL-Kit's formula where it differs.
        guard: Also end where any |next_obs| >= `guard`: stops a model that blows up. Off by
            default, because the simulators go on.
        goal: Where an AntMaze ends, x and y; other tasks have none. Without it, nowhere: D4RL's
            observation does not show it.

    Raises:
        UserError: No rule is known for the task, or an option is not one of those above.
    """
    if compat not in (None, "kit"):
        raise UserError(f"termination compat={compat!r} is unknown: choose None or 'kit'")
    if guard is not None and not guard > 0:
        raise UserError(f"termination guard={guard} ends every episode: give a positive limit")
    rule = _find(task, KIT_RULES if compat == "kit" else {})
    if rule is termination_fn_antmaze and goal is not None:
        rule = at_goal(goal)
    return rule if guard is None else _guarded(rule, guard)


def _find(task: str | Task | Rule, overrides: dict[str, Rule]) -> Rule:
    if isinstance(task, CustomTask):
        own = task.termination_rule()
        if own is not None:
            return own
        if not task.termination:
            raise UserError(
                f"no termination rule is known for {task.name}, and a model cannot guess when "
                "episodes end: give termination none (never by themselves), module:function, or "
                f"one of {', '.join(RULES)}"
            )
    if isinstance(task, Task):
        task = task.termination
    if callable(task):
        return task
    name = TASK_RULES.get(canonical(task), task)
    rule = overrides.get(name, RULES.get(name))
    if rule is None:
        raise UserError(
            f"no termination rule is known for {task!r}: give a function of (obs, act, next_obs) "
            f"or one of {', '.join(RULES)}"
        )
    return rule


def at_goal(goal: tuple[float, float], radius: float = 0.5) -> Rule:
    """AntMaze's rule where its goal is known: x and y within `radius`, bounds included."""
    x, y = goal

    def reached(obs: Any, act: Any, next_obs: Any) -> Any:
        squared = (next_obs[..., 0:1] - x) ** 2 + (next_obs[..., 1:2] - y) ** 2
        return (squared <= radius * radius) | ~_finite(next_obs)

    return reached


def _guarded(rule: Rule, guard: float) -> Rule:
    def guarded(obs: Any, act: Any, next_obs: Any) -> Any:
        return rule(obs, act, next_obs) | ~_all_below(next_obs, guard)

    return guarded


def obs_unnormalization(
    termination_fn: Rule,
    obs_mean: NDArray[Any] | torch.Tensor,
    obs_std: NDArray[Any] | torch.Tensor,
) -> Rule:
    """Let a rule read normalised observations, ``(obs - mean) / std``, of either kind.

    The statistics go to a device once, at the first call there, in the observations' dtype; make
    that call before a CUDA graph is captured.

    Args:
        termination_fn: A rule on observations that are not normalised.
        obs_mean: (S,) or (1, S).
        obs_std: (S,) or (1, S), the divisor that was used, its epsilon included.
    """
    mean, std = (torch.as_tensor(x, dtype=torch.float64).cpu() for x in (obs_mean, obs_std))
    copies: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def undo(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x * std.numpy().astype(x.dtype) + mean.numpy().astype(x.dtype)
        key = (x.device, x.dtype)
        if key not in copies:
            # Made in inference mode they could never serve a gradient.
            with torch.inference_mode(False):
                copies[key] = mean.to(*key), std.to(*key)
        return x * copies[key][1] + copies[key][0]

    def unnormalized(obs: Any, act: Any, next_obs: Any) -> Any:
        return termination_fn(undo(obs), act, undo(next_obs))

    return unnormalized
