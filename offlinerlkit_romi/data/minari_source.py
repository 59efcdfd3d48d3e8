"""Minari's data sets: a benchmark of its own, whose scores are not D4RL's."""

from __future__ import annotations

from typing import Any

import numpy as np

from offlinerlkit_romi.data.card import Card
from offlinerlkit_romi.data.columns import Columns, joined
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.data.own import default_name, finish
from offlinerlkit_romi.data.own_task import box_shape
from offlinerlkit_romi.envs.minari import open_minari, reason_of
from offlinerlkit_romi.errors import UserError

SOURCE = "minari"
NO_SCALE = "Minari's data set, not D4RL's: returns are not comparable with D4RL's scores"


def load_minari(card: Card) -> Dataset:
    """Load a Minari data set that is on this machine or can be downloaded.

    Its simulator and, where it carries them, its reference returns are used unless the card names
    others.

    Args:
        card: `file` is ``minari:ID``.

    Raises:
        UserError: Minari is missing, there is no such data set, or its spaces are not boxes of
            vectors.
    """
    dataset = open_minari(card.file)
    place = card.file
    box_shape(dataset.observation_space, place, "observations")
    box_shape(dataset.action_space, place, "actions")
    try:
        episodes = list(dataset.iterate_episodes())
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot read {place} ({reason_of(error)}): download it again") from error
    if not episodes:
        raise UserError(f"{place} holds no episodes: choose another data set")
    columns = joined([_columns(episode, place) for episode in episodes], place)
    facts: dict[str, Any] = {"name": card.name or default_name(place)}
    if not card.env and dataset.env_spec is not None:
        facts["env"] = place
    metadata = dataset.storage.metadata
    if card.reference_returns is None and metadata.get("ref_max_score") is not None:
        facts["reference_returns"] = metadata["ref_min_score"], metadata["ref_max_score"]
    if card.action_bounds is None:
        low, high = dataset.action_space.low, dataset.action_space.high
        if np.isfinite([low, high]).all():
            facts["action_bounds"] = low, high
    env_id = getattr(dataset.env_spec, "id", "unknown (no environment is stored)")
    requirements = ", ".join(metadata.get("requirements") or ())
    return finish(
        columns,
        card.override(facts),
        SOURCE,
        env_version=f"{env_id}{f', {requirements}' if requirements else ''}",
        notes=(NO_SCALE,),
    )


def _columns(episode: Any, place: str) -> Columns:
    """An episode of T actions and T+1 observations; the state after the last action is there."""
    observations, actions = np.asarray(episode.observations), np.asarray(episode.actions)
    if len(observations) != len(actions) + 1:
        raise UserError(f"{place}: episode {episode.id} is incomplete: download the set again")
    return Columns(
        observations[:-1],
        actions,
        np.asarray(episode.rewards, np.float64),
        np.asarray(episode.terminations, bool),
        np.asarray(episode.truncations, bool),
        observations[1:],
    )
