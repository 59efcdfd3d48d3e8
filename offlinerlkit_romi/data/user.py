"""The user's own data: whatever transitions are stored in, and the task that they make."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinerlkit_romi.data.card import Card, Reference, card_of, is_remote
from offlinerlkit_romi.data.checks import bounds_in_words, guessed_bounds, outside
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.data.formats import episodes_in
from offlinerlkit_romi.data.own_rows import read_columns, rows_in_memory
from offlinerlkit_romi.data.rows import FLAGS, KNOWN, Rows, joined, time_limits
from offlinerlkit_romi.envs.custom import CustomTask, make_user_env
from offlinerlkit_romi.envs.minari import open_minari
from offlinerlkit_romi.errors import UserError, reason_of

if TYPE_CHECKING:
    import torch

MEMORY = "arrays"
NO_SCALE = "Minari's data set, not D4RL's: returns are not comparable with D4RL's scores"
CHECKED_ROWS = 10_000
# Gymnasium's simulators that end episodes as a rule of ours does, when made without arguments
GYMNASIUM_RULES = {
    "HalfCheetah": "halfcheetah",
    "Hopper": "hopper",
    "Walker2d": "walker2d",
    "Pendulum": "pendulum",
}


def load_own(data: Any, *, guess: bool = False, **facts: Any) -> Dataset:
    """Load transitions of the user's and make a task of what is known about them.

    Args:
        data: The path of an npz, HDF5, CSV or Parquet file, of a folder with one such file per
            episode, or of a card (.yaml); ``minari:ID``; a dict of arrays; a pandas DataFrame; an
            iterable of episodes (dicts of arrays) or of transitions (dicts, or tuples of
            observation, action, reward, next observation, terminal and perhaps timeout).
        guess: Take action bounds from the data where nobody says them, to look at the data; a
            policy must not be trained on a guess.
        **facts: The fields of `card.Card`, over those of a card file.

    Returns:
        float32 arrays with actions in [-1, 1], `info.source` "file", "arrays" or "minari", and
        `task`, which knows the user's units.

    Raises:
        UserError: The data or a fact is not as it should be; one line says what and where.
    """
    if isinstance(data, str | Path):
        data = card_of(data)
    card = (data if isinstance(data, Card) else Card()).override(facts)
    if is_remote(card.file):
        return _load_minari(card)
    if card.file:
        rows, source = read_columns(Path(card.file), card.columns), "file"
    else:
        rows, source = rows_in_memory(data, card.columns), MEMORY
    notes: tuple[str, ...] = ()
    if guess:
        card, notes = with_bounds(card, rows.actions)
    return finish(rows, card.named(), source, notes=notes)


def _load_minari(card: Card) -> Dataset:
    """Load a Minari data set that is on this machine or can be downloaded.

    Its simulator and, where it carries them, its reference returns are used unless the card names
    others.

    Raises:
        UserError: Minari is missing, there is no such data set, or its spaces are not boxes of
            vectors.
    """
    dataset = open_minari(card.file)
    place = card.file
    box_shape(dataset.observation_space, place, "observations")
    box_shape(dataset.action_space, place, "actions")
    rows = joined([part.known() for part in episodes_in(dataset, place)], place)
    facts: dict[str, Any] = {}
    if not card.env and dataset.env_spec is not None:
        facts["env"] = place
    metadata = dataset.storage.metadata
    if card.reference_returns is None and metadata.get("ref_max_score") is not None:
        spec = dataset.env_spec
        home, limit = ("", 0) if spec is None else (spec.id, spec.max_episode_steps or 0)
        if card.env in ("", home) and card.max_episode_steps in (0, limit):
            pair = metadata["ref_min_score"], metadata["ref_max_score"]
            facts["reference_returns"] = dict(zip(("low", "high"), pair, strict=True)) | {
                "env": home,
                "max_episode_steps": limit,
            }
    if card.action_bounds is None:
        low, high = dataset.action_space.low, dataset.action_space.high
        if np.isfinite([low, high]).all():
            facts["action_bounds"] = low, high
    env_id = getattr(dataset.env_spec, "id", "unknown (no environment is stored)")
    requirements = ", ".join(metadata.get("requirements") or ())
    return finish(
        rows,
        card.named().override(facts),
        "minari",
        env_version=f"{env_id}{f', {requirements}' if requirements else ''}",
        notes=(NO_SCALE,),
    )


def with_bounds(card: Card, actions: Any) -> tuple[Card, tuple[str, ...]]:
    """The card with bounds that the actions (n, A) suggest, where nobody says them; and a note."""
    if card.action_bounds is not None or card.env:
        return card, ()
    bounds = guessed_bounds(actions)
    if {*bounds[0], *bounds[1]} <= {-1.0, 1.0}:
        return card, ()
    note = f"action bounds guessed from the data: train with {bounds_in_words(bounds)} if so"
    return card.override({"action_bounds": bounds}), (note,)


def guessed_task(card: Card, rows: Rows) -> tuple[CustomTask, tuple[str, ...]]:
    """The task that rows would make, with guessed bounds where nobody says them; and a note.

    Raises:
        UserError: See `make_task`.
    """
    card, note = with_bounds(card, rows.actions)
    widths = rows.observations.shape[1], rows.actions.shape[1]
    return make_task(card.named(), *widths, rows.source), note


def finish(rows: Rows, card: Card, source: str, **info: Any) -> Dataset:
    """From rows and their card to a data set with its task.

    Args:
        rows: In the user's units.
        card: What is known of them.
        source: What `DataInfo.source` will say.
        **info: Further fields of `DataInfo`: `env_version`, and `notes` in front of all others.

    Raises:
        UserError: The rows do not fit the card, or no row has a next state.
    """
    place = card.file or "the data"
    if not len(rows):
        raise UserError(f"{place} holds no transitions: give at least one")
    task = make_task(card, rows.observations.shape[1], rows.actions.shape[1], place)
    columns = {
        **{key: rows.columns[key] for key in KNOWN if key in rows.columns},
        "actions": _scaled_actions(rows, task, place),
        "timeouts": _timeouts(rows, card, place),
    }
    columns = {k: v if k in FLAGS else v.astype(np.float32, copy=False) for k, v in columns.items()}
    told, rows = (*info.pop("notes", ()), *rows.notes), Rows(columns, place)
    dataset = Dataset.of(
        rows,
        rows.episodes(),
        **{"env_version": task.env_id or "unknown (no simulator was named)", **info},
        task=task.name,
        source=source,
        path=card.file,
        sha256="",
        notes=told,
    )
    if not len(dataset):
        raise UserError(
            f"{place}: no row has a next state of its own episode: give longer episodes"
        )
    more = []
    if dropped := len(rows) - len(dataset):
        more.append(f"{dropped} last rows of cut episodes left out: they have no next observation")
    if task.scales_actions:
        more.append("actions are scaled from the user's bounds to [-1, 1] and back")
    more += rule_notes(dataset, task)
    dataset = replace(dataset, task=task, card=card).with_notes(*more)
    reason = dataset.untold()
    if not reason:
        return dataset
    unknown = dataset.with_info(episodes=0, behaviour_return=float("nan")).with_notes(reason)
    return replace(unknown, complete=None)


def _timeouts(rows: Rows, card: Card, place: str) -> Any:
    """Where episodes are cut.

    Raises:
        UserError: It cannot be told, and next states are to be taken from next rows.
    """
    if rows.timeouts is not None:
        return rows.timeouts
    if card.max_episode_steps:
        return time_limits(rows.terminals, card.max_episode_steps)
    if rows.next_observations is not None:
        return np.zeros(len(rows), bool)
    raise UserError(
        f"{place} does not say where episodes are cut: give timeouts, episode, next_observations "
        "or max_episode_steps (timeouts: none says that only terminals end them)"
    )


def _scaled_actions(rows: Rows, task: Any, place: str) -> Any:
    low, high = task.bounds
    wrong = outside(rows.actions, (low, high))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        guess = bounds_in_words(guessed_bounds(rows.actions))
        shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in list(zip(low, high, strict=True))[:4])
        raise UserError(
            f"{place}: {int(wrong.sum())} rows have actions outside {shown}, the first is row "
            f"{row} with {np.round(rows.actions[row], 6).tolist()}: give their bounds "
            f"(the data suggest {guess})"
        )
    return task.to_policy(rows.actions) if task.scales_actions else rows.actions


def make_task(card: Card, obs_dim: int, action_dim: int, place: str) -> CustomTask:
    """The task of a data set with observations (n, obs_dim) and actions (n, action_dim).

    Raises:
        UserError: The simulator does not fit the data, or a fact does not.
    """
    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

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
    limit = card.max_episode_steps or spaces.get("limit", 0)
    scale = card.reference_returns or Reference(float("nan"), float("nan"))
    _check_scale(scale, {card.env, spaces.get("id", "")} - {""}, limit, place)
    task = CustomTask(
        name=card.name,
        env_id=card.env,
        obs_dim=obs_dim,
        action_dim=action_dim,
        ref_min=scale.low,
        ref_max=scale.high,
        ref_env=scale.env,
        max_episode_steps=limit or scale.max_episode_steps,
        termination=card.termination or spaces.get("rule", ""),
        action_low=low,
        action_high=high,
        reward_fn=card.reward_fn,
        functions=card.functions,
        family="minari" if is_remote(card.file) else "custom",
    )
    if task.termination:  # a rule by name must exist, and be found before training starts
        get_termination_fn(task)
    return task


def _check_scale(scale: Reference, names: set[str], limit: int, place: str) -> None:
    """Returns make scores where they were earned: in this environment, under this time limit."""
    if scale.env and names and scale.env not in names:
        raise UserError(
            f"{place}: reference_returns are of {scale.env}, env is {min(names)}: give those of "
            "the same environment"
        )
    if scale.max_episode_steps and limit not in (0, scale.max_episode_steps):
        raise UserError(
            f"{place}: reference_returns are of {scale.max_episode_steps} steps, episodes have "
            f"{limit}: give those under the same time limit"
        )


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
        result["id"] = getattr(spec, "id", "")
        result["limit"] = getattr(spec, "max_episode_steps", None) or 0
        result["rule"] = rule_of(spec)
        return result
    finally:
        getattr(made, "close", lambda: None)()


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
        raise UserError(
            f"{field} {name} fails on tensors obs {tuple(inputs[0].shape)}, "
            f"act {tuple(inputs[1].shape)} ({reason_of(error)}); in models it is "
            "called with tensors"
        ) from error
    return result
