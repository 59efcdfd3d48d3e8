"""The results as one plain dictionary, and as tables made from it alone."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from offlinerlkit_romi.bench.epoch import estimate
from offlinerlkit_romi.bench.measure import Timing
from offlinerlkit_romi.bench.ours import NAME
from offlinerlkit_romi.bench.pieces import (
    ADVERSARIAL,
    EPOCH,
    MODEL_UPDATE,
    POLICY_STEP,
    ROLLOUT,
    Piece,
)

Row = dict[str, Any]
Result = Mapping[str, Any]
HEADLINES = {"cpu": "milliseconds of the processor", "wall": "milliseconds by the clock"}


def load_average() -> list[float] | None:
    """Of the last 1, 5 and 15 minutes, where the system tells."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def rows_of(pieces: Iterable[Piece]) -> list[Row]:
    """One row per piece, algorithm and way of doing it."""
    return [_row(piece, timing) for piece in pieces for timing in piece.timings]


def _row(piece: Piece, timing: Timing) -> Row:
    work = timing.work
    walls = [1e3 * sample.wall for sample in timing.samples]
    quartiles = statistics.quantiles(walls, n=4) if len(walls) > 1 else [walls[0]] * 3
    return {
        "piece": piece.name + (f", {work.variant}" if work.variant else ""),
        "algo": piece.algo,
        "column": work.label,
        "engine": work.engine,
        "matmul_precision": work.precision,
        "cpu_ms": _rounded(timing.cpu_ms),
        "wall_ms": _rounded(timing.wall_ms),
        "wall_ms_quartiles": [_rounded(quartiles[0]), _rounded(quartiles[2])],
        "samples": len(timing.samples),
        "units_per_sample": work.units,
        "gflop": _rounded(timing.gflop),
        "peak_mb": _rounded(timing.peak_mb),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def find(result: Result, piece: str, algo: str, column: str) -> float | None:
    """A row's headline milliseconds."""
    for row in result["rows"]:
        if (row["piece"], row["algo"], row["column"]) == (piece, algo, column):
            return float(row[f"{result['headline']}_ms"])
    return None


def tables(result: Result) -> str:
    """All tables, in Markdown."""
    parts = [_pieces_table(result), _epoch_table(result), _circumstances(result)]
    return "\n\n".join(part for part in parts if part)


def _pieces_table(result: Result) -> str:
    key = f"{result['headline']}_ms"
    rows = [row for row in result["rows"] if row["piece"] != EPOCH]
    columns = list(dict.fromkeys(row["column"] for row in rows))
    others = [name for name in columns if name != NAME]
    body = []
    for piece, algo in dict.fromkeys((row["piece"], row["algo"]) for row in rows):
        cells = {r["column"]: r for r in rows if (r["piece"], r["algo"]) == (piece, algo)}
        own = cells.get(NAME)
        line = [f"{piece} {algo}".strip(), *(_ms(cells, name, key) for name in columns)]
        for name in others:
            both = own is not None and name in cells
            line.append(f"{cells[name][key] / own[key]:.2f}" if both and own else "")
        line += [_gflop(own), _above_floor(own, result, key)]
        body.append(line)
    head = ["piece", *columns, *(f"{name} / {NAME}" for name in others), "GFLOP", "x floor"]
    return f"In {HEADLINES[result['headline']]}.\n\n" + markdown(head, body) if body else ""


def _ms(cells: Mapping[str, Row], name: str, key: str) -> str:
    return f"{cells[name][key]:.4g}" if name in cells else ""


def _gflop(row: Row | None) -> str:
    return f"{row['gflop']:.3g}" if row and row["gflop"] else ""


def _above_floor(row: Row | None, result: Result, key: str) -> str:
    """Time over that of the products alone at the speed of a large one."""
    if not row or not row["gflop"]:
        return ""
    floor = 1e3 * row["gflop"] / result["peak_gflops"][row["matmul_precision"]]
    return f"{row[key] / floor:.2f}"


def _epoch_table(result: Result) -> str:
    key, body = f"{result['headline']}_ms", []
    measured = {r["column"]: r[key] for r in result["rows"] if r["piece"] == EPOCH}
    for algo in ADVERSARIAL:
        guess = estimated_epoch(result, algo, NAME)
        line = [algo]
        for ms in (measured.get(algo), guess):
            line += [f"{ms:.4g}", f"{1e3 / ms:.4g}"] if ms else ["", ""]
        body.append(line)
    if not any(cell for line in body for cell in line[1:]):
        return ""
    ratios = [_ratio(measured.get("romi"), measured.get("rambo"))]
    ratios += [_ratio(*(estimated_epoch(result, algo, NAME) for algo in ADVERSARIAL))]
    body.append(["romi / rambo", ratios[0], "", ratios[1], ""])
    head = ["epoch", "measured, ms per step", "steps/s", "from its pieces, ms per step", "steps/s"]
    return markdown(head, body)


def estimated_epoch(result: Result, algo: str, column: str) -> float | None:
    """Milliseconds per step of an epoch of 1000 steps, 1000 model updates and 4 rollouts."""
    step = find(result, POLICY_STEP, algo, column)
    update = find(result, MODEL_UPDATE, algo, column)
    rollout = find(result, ROLLOUT, "", column)
    if step is None or update is None or rollout is None:
        return None
    return estimate(step, update, rollout, result["sizes"]["rollout_rows"])


def _ratio(left: float | None, right: float | None) -> str:
    return f"{left / right:.3f}" if left and right else ""


def _circumstances(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    peak = ", ".join(f"{value:.0f} ({name})" for name, value in result["peak_gflops"].items())
    load = " to ".join(str(result["load_average"][when][0]) for when in ("before", "after"))
    against = [f"{name} {x['commit'] or 'unknown'}" for name, x in result["against"].items()]
    lines = [
        f"{machine['device_name']}, {result['threads']} thread(s), torch {versions['torch']}, "
        f"load average {load}; large float32 products: {peak} GFLOP/s.",
        f"Shapes of {result['task']}; medians of {result['sizes']['repeats']} samples in turn.",
    ]
    if against:
        lines.append(f"Against {'; '.join(against)}.")
    return "\n".join(lines)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as they need be."""
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

    def show(cells: Sequence[str]) -> str:
        first, *rest = cells
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([show(head), show(rule), *map(show, body)])
