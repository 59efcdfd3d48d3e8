"""`load_dataset`: a benchmark's task by its name, or the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offlinerlkit_romi.data.card import SUFFIXES, is_remote
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.data.own import load_own
from offlinerlkit_romi.data.sources import SOURCES, load
from offlinerlkit_romi.data.tables import READERS


def load_dataset(data: Any, source: str | None = None, **facts: Any) -> Dataset:
    """Load transitions of a known task, or the user's own.

    Args:
        data: A known task's name, such as ``hopper-medium-v2``; or the user's own data: a path
            (npz, HDF5, CSV, Parquet, a folder of episodes, a card), ``minari:ID``, a dict of
            arrays, a DataFrame, or an iterable of episodes or transitions.
        source: For a known task, where its transitions come from, see `sources.load`.
        **facts: For a known task, the options of `sources.load`. For the user's own, the fields of
            `card.Card`: name, columns, action_bounds, max_episode_steps, termination, reward_fn,
            env, reference_returns.

    Raises:
        UserError: Unknown task, or data that is not as it should be.
    """
    if isinstance(data, Dataset):
        return data
    if source is None and not (isinstance(data, str) and not looks_like_data(data)):
        return load_own(data, **facts)
    return load(data, source or "auto", **facts)


def looks_like_data(text: str) -> bool:
    """Whether a text is a path or an address rather than a task's name."""
    path = Path(text).expanduser()
    return (
        is_remote(text)
        or path.suffix.lower() in (*READERS, *SUFFIXES)
        or len(path.parts) > 1
        or path.is_dir()
    )


def is_own(source: str, task: str | None) -> bool:
    """Whether a run's data make a task of the user's own: rows, and not of a benchmark's task."""
    from offlinerlkit_romi.envs.tasks import TASKS, canonical

    if source in SOURCES or not looks_like_data(source):
        return False
    return canonical(task or "") not in TASKS
