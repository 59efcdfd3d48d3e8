"""`data mix`: rows of several sources of one simulator in one file that says whose they are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.data.benchmarks import ORIGINS
from offlinerlkit_romi.data.card import card_of
from offlinerlkit_romi.data.checks import check_table
from offlinerlkit_romi.data.convert import check_output, write_file
from offlinerlkit_romi.data.load import read_source
from offlinerlkit_romi.data.rows import MIX, REQUIRED, Rows, joined
from offlinerlkit_romi.envs.tasks import TASKS, Task, canonical
from offlinerlkit_romi.errors import UserError, shown
from offlinerlkit_romi.system.files import file_digest


@dataclass(frozen=True)
class Part:
    """One source of a mix.

    Attributes:
        source: As it was named.
        sha256: Of its file; "" where it is none.
        rows: Those that go into the mix.
        total: How many rows the source has.
        task: The benchmark's task it belongs to, where it says.
    """

    source: str
    sha256: str
    rows: Rows
    total: int
    task: Task | None

    def record(self) -> dict[str, Any]:
        """Plain values for the file."""
        metadata = self.rows.metadata
        return {
            "source": self.source,
            "sha256": self.sha256 or None,
            "rows": len(self.rows),
            "rows_of_source": self.total,
            "task": None if self.task is None else self.task.name,
            "generated": "generated" in metadata,
            "mix": json.loads(metadata.get(MIX, "null")),
        }


def mix(
    sources: Sequence[str], out: str | Path, shares: Sequence[float] = (), seed: int = 0
) -> tuple[str, ...]:
    """Write whole episodes of several sources one behind the other.

    Args:
        sources: What `data convert` takes: files, folders of episodes, cards, ``minari:ID``.
        out: The HDF5 or npz file; ``metadata/mix`` in it tells of each part in turn its source,
            sha256, rows and task, as JSON.
        shares: How much of the mix each source makes up, in any unit; the mix is as large as the
            sources allow. By default every row of each.
        seed: Of the choice of episodes, where a share leaves some out.

    Returns:
        What a reader must know, one line each.

    Raises:
        UserError: Sources of different simulators, or that cannot be read; shares that make no
            sense; a file that exists or cannot be written.
    """
    path = Path(out)
    check_output(path)
    if len(sources) < 2:
        raise UserError(f"a mix of {len(sources)} source: give two or more")
    _check_shares(shares, len(sources))
    if seed < 0:
        raise UserError(f"--seed is {seed}: give a whole number, 0 or more")
    parts = [_read(source) for source in sources]
    _check_simulator(parts)
    if shares:
        unit = min(part.total / share for part, share in zip(parts, shares, strict=True))
        rng = np.random.default_rng(seed)
        parts = [
            replace(part, rows=_some_episodes(part.rows, round(unit * share), rng))
            for part, share in zip(parts, shares, strict=True)
        ]
    alike, left_out = _alike([part.rows for part in parts])
    rows = joined(alike, " and ".join(sources))
    records = [part.record() for part in parts]
    made = replace(rows, extras={f"metadata/{MIX}": np.asarray(np.bytes_(json.dumps(records)))})
    write_file(made, path)
    told = [f"{r['rows']:,} of {r['rows_of_source']:,} rows of {r['source']}" for r in records]
    return (*told, *rows.notes, *left_out)


def _check_shares(shares: Sequence[float], count: int) -> None:
    if shares and (len(shares) != count or not all(math.isfinite(s) and s > 0 for s in shares)):
        raise UserError(
            f"--share is {shown(list(shares))}: give {count} numbers above 0, one for each source"
        )


def _read(source: str) -> Part:
    card = card_of(source)
    path = Path(card.file)
    rows = read_source(card)
    check_table(rows)
    sha256 = file_digest(path) if path.is_file() else ""
    known = (origin.archive.task_of(sha256) for origin in ORIGINS.values())
    name = next(filter(None, known), None) or canonical(rows.metadata.get("task", ""))
    rows = replace(rows, task=TASKS.get(name))
    if rows.timeouts is None and rows.ordered:  # read back, a column of them says all
        rows = rows.with_columns(timeouts=rows.said_timeouts())
    flat = {key: rows.columns[key].reshape(-1) for key in ("rewards", "terminals")}
    return Part(source, sha256, rows.with_columns(**flat), len(rows), rows.task)


def _check_simulator(parts: Sequence[Part]) -> None:
    known = [part for part in parts if part.task is not None]
    for first, part in pairwise(known):
        assert first.task is not None and part.task is not None
        if (first.task.env_id, first.task.family) != (part.task.env_id, part.task.family):
            raise UserError(
                f"{first.source} is of {first.task.name}, {part.source} of {part.task.name}: "
                "mix data of one simulator"
            )


def _some_episodes(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """About `count` rows: whole episodes, drawn at random, in the order they had."""
    ends = np.flatnonzero((rows.ends | rows.breaks)[:-1])
    edges = np.r_[0, ends + 1, len(rows)]
    order = rng.permutation(len(edges) - 1)
    lengths = np.diff(edges)[order]
    chosen = order[: int(np.searchsorted(np.cumsum(lengths), count)) + 1]
    kept = np.zeros(len(edges) - 1, bool)
    kept[chosen] = True
    return rows.take(np.repeat(kept, np.diff(edges)))


def _alike(parts: Sequence[Rows]) -> tuple[list[Rows], list[str]]:
    """The columns that all parts have, in one shape; and which were left out."""
    shapes = [{key: value.shape[1:] for key, value in part.columns.items()} for part in parts]
    common = {k for k in shapes[0] if all(s.get(k) == shapes[0][k] for s in shapes)}
    common |= {*REQUIRED, "next_observations"}  # whose absence or width is nobody's to overlook
    names = {key for shape in shapes for key in shape} - common
    kept = [replace(p, columns={k: v for k, v in p.columns.items() if k in common}) for p in parts]
    told = f"left out, not every source has them alike: {', '.join(sorted(names))}"
    return kept, [told] if names else []
