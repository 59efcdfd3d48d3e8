"""The rows of any source that `train` takes, as they stand: what `convert` and `doctor` work on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.card import Card, is_remote
from offlinerlkit_romi.data.columns import Columns, columns_of
from offlinerlkit_romi.data.minari_source import open_minari
from offlinerlkit_romi.data.own import card_of, read_columns
from offlinerlkit_romi.data.raw import REQUIRED, SUFFIXES, Array, RawData, as_raw, read_arrays
from offlinerlkit_romi.errors import UserError

NAMED_ONLY = "what has no name in D4RL's format is not read"


def read_any(source: str) -> RawData:
    """Read a file, a folder of episodes, what a card names, or ``minari:<id>``.

    Raises:
        UserError: See `read_source`.
    """
    return read_source(card_of(source))


def read_source(card: Card) -> RawData:
    """The rows that a card names; NaN and infinity are read as well.

    A file with D4RL's or NeoRL's keys keeps every array, bit for bit.

    Raises:
        UserError: Unreadable, or columns are missing.
    """
    if is_remote(card.file):
        return _read_minari(card.file)
    path = Path(card.file)
    if path.is_dir() or path.suffix.lower() not in SUFFIXES:
        return _of_columns(read_columns(path, card.columns, finite=False), card.file)
    arrays = read_arrays(path)
    if card.columns.entries or not _alike(arrays):
        return _of_columns(columns_of(arrays, card.columns, card.file, finite=False), card.file)
    return as_raw(arrays, card.file)


def _alike(arrays: dict[str, Array]) -> bool:
    """Whether each action has its own observation, both under D4RL's names."""
    counts = {arrays[key].shape[:1] if key in arrays else None for key in REQUIRED[:2]}
    return len(counts) == 1 and None not in counts


def _of_columns(rows: Columns, source: str) -> RawData:
    values = {
        "observations": rows.observations,
        "actions": rows.actions,
        "rewards": rows.rewards,
        "terminals": rows.terminals,
        "timeouts": rows.timeouts,
        "next_observations": rows.next_observations,
    }
    columns = {key: value for key, value in values.items() if value is not None}
    return RawData(columns, {}, source, (*rows.notes, NAMED_ONLY))


def _read_minari(address: str) -> RawData:
    columns: dict[str, list[Array]] = {}
    for episode in open_minari(address).iterate_episodes():
        if not isinstance(episode.observations, np.ndarray):
            raise UserError(
                f"{address}: its observations are no vectors: only those can be converted"
            )
        for key, value in _episode_columns(episode).items():
            columns.setdefault(key, []).append(value)
    return as_raw({k: np.concatenate(v) for k, v in columns.items()}, address)


def _episode_columns(episode: Any) -> dict[str, Array]:
    steps = len(episode.rewards)
    infos = {
        f"infos/{key}": np.asarray(value)[:steps]
        for key, value in (episode.infos or {}).items()
        if not isinstance(value, dict)
    }
    return {
        "observations": episode.observations[:-1],
        "actions": episode.actions,
        "rewards": episode.rewards,
        "next_observations": episode.observations[1:],
        "terminals": episode.terminations,
        "timeouts": episode.truncations,
    } | infos
