"""`data convert`: the same rows in another format, bit for bit where the format can carry them."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.any_source import read_source
from offlinerlkit_romi.data.card import Card
from offlinerlkit_romi.data.own import card_of, with_bounds
from offlinerlkit_romi.data.own_task import make_task
from offlinerlkit_romi.data.raw import (
    HDF5_SUFFIXES,
    SUFFIXES,
    Array,
    RawData,
    write_hdf5,
    write_npz,
)
from offlinerlkit_romi.errors import UserError

FORMATS = ("d4rl", "npz", "minari")
PER_STEP = ("actions", "rewards", "terminations", "truncations")


def convert(
    source: str, form: str, out: str, action_bounds: Sequence[float] | None = None
) -> tuple[str, ...]:
    """Write the rows of `source` as another format.

    Args:
        source: A file (npz, HDF5, CSV, Parquet), a folder of episodes, a card, or
            ``minari:<dataset id>``.
        form: ``d4rl`` (HDF5), ``npz`` or ``minari``.
        out: The file to write; for ``minari`` the new data set's id, such as ``mine/hopper-v0``.
        action_bounds: Lowest and highest action, which Minari records; by default the card's, the
            simulator's, or what the actions suggest.

    Returns:
        What a reader must know, one line each: what the new format could not carry, what was
            guessed; nothing for HDF5 and npz files with D4RL's keys.

    Raises:
        UserError: Unreadable input, an output that exists or cannot be written, or a missing
            package. Nothing half-written is left.
    """
    if form not in FORMATS:
        raise UserError(f"--to {form}: choose {', '.join(FORMATS)}")
    card = card_of(source).override({"action_bounds": action_bounds})
    data = read_source(card)
    if form == "minari":
        return (*data.notes, *_write_minari(data, out, card))
    write_file(data, Path(out), form)
    return data.notes


def write_file(data: RawData, path: Path, form: str | None = None) -> None:
    """Write HDF5 or npz, as `form` or the file's ending says; an existing file is never replaced.

    Raises:
        UserError: The file exists, its folder does not, or its ending belongs to another format.
    """
    check_output(path, form)
    (write_hdf5 if path.suffix in HDF5_SUFFIXES else write_npz)(data, path)


def check_output(path: Path, form: str | None = None) -> None:
    """What `write_file` refuses, before there is anything to write.

    Raises:
        UserError: See `write_file`.
    """
    suffixes = {"d4rl": HDF5_SUFFIXES, "npz": (".npz",), None: SUFFIXES}[form]
    if path.suffix not in suffixes:
        raise UserError(f"{path}: give a name that ends in {' or '.join(suffixes)}")
    if path.exists():
        raise UserError(f"{path} exists: delete it, or give another name")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write to the folder {path.parent}: give one that can be written")


def _minari() -> Any:
    if find_spec("minari") is None:
        raise UserError("Minari data sets need minari: pip install offlinerlkit-romi[minari]")
    import minari

    return minari


def _write_minari(data: RawData, name: str, card: Card) -> tuple[str, ...]:
    minari = _minari()
    from gymnasium.spaces import Box

    episodes, told = _episodes(data)
    obs, act = data.columns["observations"], data.columns["actions"]
    card, guessed = with_bounds(card, act)
    low, high = make_task(card, obs.shape[1], act.shape[1], data.source).bounds
    told += guessed
    with warnings.catch_warnings(), _in_place(minari, name):
        warnings.simplefilter("ignore")  # who the author is, and that no simulator is named
        minari.create_dataset_from_buffers(
            name,
            episodes,
            observation_space=Box(-np.inf, np.inf, obs.shape[1:], obs.dtype.type),
            action_space=Box(low.astype(act.dtype), high.astype(act.dtype), dtype=act.dtype.type),
            description=f"converted by offlinerlkit-romi from {Path(data.source).name}",
        )
    if data.extras:
        told.append(f"left out, Minari has no place for them: {', '.join(sorted(data.extras))}")
    return tuple(told)


@contextmanager
def _in_place(minari: Any, name: str) -> Iterator[None]:
    """Let Minari write into a folder of ours and move the whole data set where it belongs."""
    variable = "MINARI_DATASETS_PATH"
    before = os.environ.get(variable)
    root = Path(before or Path.home() / ".minari" / "datasets")
    if (root / name).exists():
        raise UserError(f"the Minari data set {name!r} exists: delete it, or give another id")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".converting-") as folder:
        os.environ[variable] = folder
        try:
            yield
        except (ValueError, TypeError) as error:  # Minari's own rules for ids
            raise UserError(f"Minari refuses {name!r}: {str(error).splitlines()[0]}") from error
        finally:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(folder) / name, root / name)


def _episodes(data: RawData) -> tuple[list[Any], list[str]]:
    """One Minari buffer per episode, and what got lost."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    terminals, timeouts = data.flags("terminals"), data.flags("timeouts")
    assert terminals is not None
    timeouts = np.zeros(len(data), bool) if timeouts is None else timeouts
    told: list[str] = []
    if "next_observations" in data.columns:
        breaks = _breaks(data) & ~(terminals | timeouts)[:-1]
        if breaks.any():
            told.append(
                f"{int(breaks.sum())} rows are not followed by their next state (the first is row "
                f"{int(np.flatnonzero(breaks)[0])}): an episode ends there"
            )
        ends = (terminals | timeouts)[:-1] | breaks
    else:
        data, terminals, timeouts = _with_next_states(data, terminals, timeouts, told)
        ends = (terminals | timeouts)[:-1] | _breaks(data)
    edges = [0, *(np.flatnonzero(ends) + 1).tolist(), len(data)]
    columns = data.columns
    infos = {k.removeprefix("infos/"): v for k, v in columns.items() if k.startswith("infos/")}
    further = [k for k in columns if k not in _KNOWN and not k.startswith("infos/")]
    if further:
        told.append(f"left out, Minari has no place for them: {', '.join(sorted(further))}")
    return (
        [
            EpisodeBuffer(
                observations=np.concatenate(
                    [columns["observations"][a:b], columns["next_observations"][b - 1 : b]]
                ),
                actions=columns["actions"][a:b],
                rewards=columns["rewards"][a:b].reshape(-1),
                terminations=terminals[a:b],
                truncations=timeouts[a:b],
                infos={key: value[a:b] for key, value in infos.items()} or None,
            )
            for a, b in pairwise(edges)
        ],
        told,
    )


_KNOWN = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def _breaks(data: RawData) -> Array:
    """(n-1,) where the next row does not start in this one's next state, bit for bit."""
    following = data.columns["next_observations"][:-1] != data.columns["observations"][1:]
    return np.asarray(following.any(axis=1))


def _with_next_states(
    data: RawData, terminals: Array, timeouts: Array, told: list[str]
) -> tuple[RawData, Array, Array]:
    """Next states as `hdf5.transitions_of` takes them: from the next row of the same episode."""
    continues = ~(terminals | timeouts)
    continues[-1] = False
    kept = np.flatnonzero(continues | terminals)
    following = kept + continues[kept]
    states = data.columns["observations"]
    lost = len(data) - len(kept)
    told.append(
        f"no next observations are stored: {lost} rows at time limits and at the end are left out, "
        f"{int(terminals.sum())} terminal rows get their own observation as the next one"
    )
    if not len(kept):
        raise UserError(f"{data.source}: no row has a next state: nothing to convert")
    chosen = data.take(kept).with_columns(next_observations=states[following])
    # an episode that lost its last row to the time limit is cut one row earlier
    cut = np.r_[np.diff(kept) > 1, kept[-1] != len(data) - 1] & ~terminals[kept]
    return chosen, terminals[kept], cut
