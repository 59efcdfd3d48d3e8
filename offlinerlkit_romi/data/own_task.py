"""From a card and the data's rows to a task, and how its functions agree with the data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinerlkit_romi.data.card import Card, is_remote
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.envs.custom import CustomTask, make_user_env
from offlinerlkit_romi.errors import UserError

if TYPE_CHECKING:
    import torch

CHECKED_ROWS = 10_000
# Gymnasium's simulators that end episodes as a rule of ours does, when made without arguments
GYMNASIUM_RULES = {
    "HalfCheetah": "halfcheetah",
    "Hopper": "hopper",
    "Walker2d": "walker2d",
    "Pendulum": "pendulum",
}


def make_task(card: Card, obs_dim: int, action_dim: int, place: str) -> CustomTask:
    """The task of a data set with observations (n, obs_dim) and actions (n, action_dim).

    Raises:
        UserError: The simulator does not fit the data, or a fact does not.
    """
    functions = dict(card.functions)
    spaces: dict[str, Any] = {}
    if card.env:
        spaces = _spaces(functions.get("env") or card.env, card.env)
        _check_spaces(spaces, card.env, obs_dim, action_dim, place)
    low, high = card.action_bounds or spaces.get("bounds") or ((-1.0,), (1.0,))
    low, high = (tuple(x) * action_dim if len(x) == 1 else tuple(x) for x in (low, high))
    if len(low) != action_dim:
        raise UserError(
            f"{place}: action_bounds has {len(low)} entries, actions have {action_dim}: give one "
            "per dimension, or one for all"
        )
    ref_min, ref_max = card.reference_returns or (float("nan"), float("nan"))
    task = CustomTask(
        name=card.name,
        env_id=card.env,
        obs_dim=obs_dim,
        action_dim=action_dim,
        ref_min=ref_min,
        ref_max=ref_max,
        max_episode_steps=card.max_episode_steps or spaces.get("limit", 0),
        termination=card.termination or spaces.get("rule", ""),
        action_low=low,
        action_high=high,
        reward_fn=card.reward_fn,
        functions=card.functions,
        family="minari" if is_remote(card.file) else "custom",
    )
    _check_rule(task)
    return task


def _check_rule(task: CustomTask) -> None:
    """A rule by name must exist, and be found before training starts."""
    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

    if task.termination:
        get_termination_fn(task)


def _spaces(env: Any, name: str) -> dict[str, Any]:
    """What an environment says of itself: dimensions, bounds, time limit, rule.

    Raises:
        UserError: It cannot be made, or a space is not a box of vectors.
    """
    made = make_user_env(env)
    try:
        result: dict[str, Any] = {
            "obs": box_shape(getattr(made, "observation_space", None), name, "observations"),
            "action": box_shape(getattr(made, "action_space", None), name, "actions"),
        }
        space = made.action_space
        low, high = (np.asarray(x, np.float64) for x in (space.low, space.high))
        if np.isfinite([low, high]).all():
            result["bounds"] = tuple(low.tolist()), tuple(high.tolist())
        spec = getattr(made, "spec", None)
        result["limit"] = getattr(spec, "max_episode_steps", None) or 0
        result["rule"] = rule_of(spec)
        return result
    finally:
        close = getattr(made, "close", None)
        if callable(close):
            close()


def box_shape(space: Any, place: str, what: str) -> tuple[int, ...]:
    """The shape (d,) of a continuous vector space of Gymnasium's or gym's.

    Raises:
        UserError: Another kind of space.
    """
    kind = type(space).__name__
    shape = getattr(space, "shape", None)
    if kind != "Box" or shape is None:
        hint = "discrete actions are not supported" if kind.endswith("Discrete") else ""
        raise UserError(
            f"{place}: the space of {what} is {kind}: "
            f"{hint or 'only boxes of vectors are supported'}"
        )
    if len(shape) != 1:
        raise UserError(
            f"{place}: {what} have shape {shape}: images and other tensors are not supported, "
            "only vectors"
        )
    if np.dtype(space.dtype).kind != "f" and what == "actions":
        raise UserError(f"{place}: actions are {space.dtype}: discrete actions are not supported")
    return tuple(shape)


def rule_of(spec: Any) -> str:
    """The rule of a Gymnasium simulator whose end of an episode we know; "" for all others."""
    match = re.fullmatch(r"(\w+)-v\d+", str(getattr(spec, "id", "")))
    if match is None or any(k != "render_mode" for k in getattr(spec, "kwargs", None) or {}):
        return ""
    return GYMNASIUM_RULES.get(match[1], "")


def _check_spaces(
    spaces: dict[str, Any], env: str, obs_dim: int, action_dim: int, place: str
) -> None:
    for what, key, width in (("observations", "obs", obs_dim), ("actions", "action", action_dim)):
        if spaces[key] != (width,):
            raise UserError(
                f"{place}: {what} have {width} entries, those of env {env} have {spaces[key][0]}: "
                "name the simulator that the data comes from"
            )


def rule_notes(dataset: Dataset, task: CustomTask) -> list[str]:
    """How often the task's functions contradict the data; calling them also shows that they run.

    Raises:
        UserError: A function fails or returns something of another kind.
    """
    import torch

    rows = slice(None) if dataset.model_rows is None else np.flatnonzero(dataset.model_rows)
    step = max(1, len(dataset.observations[rows]) // CHECKED_ROWS)
    part = {k: torch.as_tensor(v[rows][::step]) for k, v in dataset.as_dict().items()}
    inputs = part["observations"], part["actions"], part["next_observations"]
    if not len(part["rewards"]):
        return []
    notes = []
    if task.termination:
        ended = _called(task, "termination", inputs).bool()
        count, missed = len(ended), part["terminals"].bool() & ~ended
        false = ended & ~part["terminals"].bool()
        notes.append(
            f"termination {task.termination} on {count} of the data's rows: ends "
            f"{int(false.sum())} that go on, misses {int(missed.sum())} of "
            f"{int(part['terminals'].sum())} that end"
        )
    if task.reward_fn:
        error = (_called(task, "reward_fn", inputs) - part["rewards"]).abs()
        notes.append(
            f"reward_fn {task.reward_fn} differs from the data's rewards by "
            f"{float(error.mean()):.3g} on average and {float(error.max()):.3g} at most"
        )
    return notes


def _called(task: CustomTask, field: str, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    import torch

    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

    function = get_termination_fn(task) if field == "termination" else task.reward_function()
    name = getattr(task, field)
    if function is None:
        raise UserError(
            f"{field} {name!r} is no function: write module:function or file.py:function"
        )
    try:
        result: torch.Tensor = torch.as_tensor(function(*inputs))
    except UserError:
        raise
    except Exception as error:  # the function is the user's
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{field} {name} fails on tensors obs {tuple(inputs[0].shape)}, "
            f"act {tuple(inputs[1].shape)} ({type(error).__name__}: {reason}); in models it is "
            "called with tensors"
        ) from error
    return result
