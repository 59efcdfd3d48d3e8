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

from offlinerlkit_romi.data.card import Card, card_of
from offlinerlkit_romi.data.checks import check_table
from offlinerlkit_romi.data.formats import ARRAY_SUFFIXES, HDF5_SUFFIXES, write_arrays
from offlinerlkit_romi.data.load import read_source
from offlinerlkit_romi.data.rows import KNOWN, Rows
from offlinerlkit_romi.data.user import guessed_task
from offlinerlkit_romi.errors import UserError

FORMATS = ("d4rl", "npz", "minari")


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
    rows = read_source(card)
    if form == "minari":
        return (*rows.notes, *_write_minari(rows, out, card))
    write_file(rows, Path(out), form)
    return rows.notes


def write_file(rows: Rows, path: Path, form: str | None = None) -> None:
    """Write HDF5 or npz, as `form` or the file's ending says; an existing file is never replaced.

    Raises:
        UserError: The file exists, its folder does not, or its ending belongs to another format.
    """
    check_output(path, form)
    write_arrays(path, {**rows.columns, **rows.extras})


def check_output(path: Path, form: str | None = None) -> None:
    """What `write_file` refuses, before there is anything to write.

    Raises:
        UserError: See `write_file`.
    """
    suffixes = {"d4rl": HDF5_SUFFIXES, "npz": (".npz",), None: ARRAY_SUFFIXES}[form]
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


def _write_minari(rows: Rows, name: str, card: Card) -> tuple[str, ...]:
    minari = _minari()
    from gymnasium.spaces import Box

    check_table(rows)
    episodes, told = _episodes(rows)
    obs, act = rows.observations, rows.actions
    task, guessed = guessed_task(card, rows)
    low, high = task.bounds
    told += guessed
    with warnings.catch_warnings(), _in_place(minari, name):
        warnings.simplefilter("ignore")  # who the author is, and that no simulator is named
        minari.create_dataset_from_buffers(
            name,
            episodes,
            observation_space=Box(-np.inf, np.inf, obs.shape[1:], obs.dtype.type),
            action_space=Box(low.astype(act.dtype), high.astype(act.dtype), dtype=act.dtype.type),
            description=f"converted by offlinerlkit-romi from {Path(rows.source).name}",
        )
    if rows.extras:
        told.append(f"left out, Minari has no place for them: {', '.join(sorted(rows.extras))}")
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


def _episodes(rows: Rows) -> tuple[list[Any], list[str]]:
    """One Minari buffer per episode, and what got lost."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    told: list[str] = []
    if rows.next_observations is None:
        rows = _with_next_states(rows, told)
    else:
        breaks = (rows.breaks & ~rows.ends)[:-1]
        if breaks.any():
            told.append(
                f"{int(breaks.sum())} rows are not followed by their next state (the first is row "
                f"{int(np.flatnonzero(breaks)[0])}): an episode ends there"
            )
    edges = [0, *(np.flatnonzero((rows.ends | rows.breaks)[:-1]) + 1).tolist(), len(rows)]
    columns, timeouts = rows.columns, rows.timeouts
    infos = {k.removeprefix("infos/"): v for k, v in columns.items() if k.startswith("infos/")}
    further = [k for k in columns if k not in KNOWN and not k.startswith("infos/")]
    if further:
        told.append(f"left out, Minari has no place for them: {', '.join(sorted(further))}")
    return (
        [
            EpisodeBuffer(
                observations=np.concatenate(
                    [columns["observations"][a:b], columns["next_observations"][b - 1 : b]]
                ),
                actions=columns["actions"][a:b],
                rewards=rows.rewards[a:b],
                terminations=rows.terminals[a:b],
                truncations=np.zeros(b - a, bool) if timeouts is None else timeouts[a:b],
                infos={key: value[a:b] for key, value in infos.items()} or None,
            )
            for a, b in pairwise(edges)
        ],
        told,
    )


def _with_next_states(rows: Rows, told: list[str]) -> Rows:
    """Next states from the next row of the same episode; what was cut is cut one row earlier."""
    (kept, _), (chosen, _) = rows.pairs(), rows.paired()
    told.append(
        f"no next observations are stored: {len(rows) - len(kept)} rows at time limits and at the "
        f"end are left out, {int(rows.terminals.sum())} terminal rows get their own observation as "
        "the next one"
    )
    if not len(kept):
        raise UserError(f"{rows.source}: no row has a next state: nothing to convert")
    cut = np.r_[np.diff(kept) > 1, kept[-1] != len(rows) - 1] & ~chosen.terminals
    return chosen.with_columns(timeouts=cut)
