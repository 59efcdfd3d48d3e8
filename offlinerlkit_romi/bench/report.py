"""The results as one plain dictionary, and as tables made from it alone."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from offlinerlkit_romi.bench.measure import Piece, Timing
from offlinerlkit_romi.bench.workload import (
    ADVERSARIAL,
    EPOCH,
    FIT_STEP,
    LABELS,
    MODEL_UPDATE,
    NAME,
    POLICY_STEP,
    ROLLOUT,
    ROLLOUT_ROWS,
    ROLLOUTS,
    STEPS,
    steps_of,
)
from offlinerlkit_romi.utils.text import markdown

Row = dict[str, Any]
Result = Mapping[str, Any]
CAPTURED = (POLICY_STEP, MODEL_UPDATE, FIT_STEP, ROLLOUT, EPOCH)
HEADLINES = {"cpu": "milliseconds of the processor", "wall": "milliseconds by the clock"}


def load_average() -> list[float] | None:
    """Of the last 1, 5 and 15 minutes, where the system tells."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def rows_of(pieces: Iterable[Piece], headline: str) -> list[Row]:
    """One row per piece, algorithm and way of doing it."""
    rows = [_row(piece, timing) for piece in pieces for timing in piece.timings]
    key = f"{headline}_ms"
    eager = {(row["piece"], row["algo"]): row[key] for row in rows if row["column"] == NAME}
    for row in rows:
        if row["engine"] != "eager":
            row["eager_over_this"] = _rounded(eager[row["piece"], row["algo"]] / row[key])
    return rows


def _row(piece: Piece, timing: Timing) -> Row:
    work = timing.work
    walls = [1e3 * sample.wall for sample in timing.samples]
    quartiles = statistics.quantiles(walls, n=4) if len(walls) > 1 else [walls[0]] * 3
    return {
        "piece": piece.name + (f", {work.variant}" if work.variant else ""),
        "algo": work.algo or piece.algo,
        "column": work.label,
        "engine": "eager" if work.told else work.engine,
        "matmul_precision": work.precision,
        "cpu_ms": _rounded(timing.cpu_ms),
        "wall_ms": _rounded(timing.wall_ms),
        "wall_ms_quartiles": [_rounded(quartiles[0]), _rounded(quartiles[2])],
        "samples": len(timing.samples),
        "units_per_sample": work.units,
        "gflop": _rounded(timing.gflop),
        "peak_mb": _rounded(timing.peak_mb),
    } | ({"told": list(work.told)} if work.told else {})


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def find(result: Result, piece: str, algo: str, column: str) -> float | None:
    """A row's headline milliseconds; None where there is no such row."""
    cell = _cells(result, piece, algo).get(column)
    return None if cell is None else float(cell[f"{result['headline']}_ms"])


def _cells(result: Result, piece: str, algo: str) -> dict[str, Row]:
    """Rows of a piece by column; not those whose steps fell back on another engine."""
    rows = [r for r in result["rows"] if (r["piece"], r["algo"]) == (piece, algo)]
    return {row["column"]: row for row in rows if not row.get("told")}


def tables(result: Result) -> str:
    """All tables, in Markdown."""
    parts = [_pieces_table(result), _epoch_table(result), _remarks(result), _circumstances(result)]
    return "\n\n".join(part for part in parts if part)


def _pieces_table(result: Result) -> str:
    key = f"{result['headline']}_ms"
    rows = [row for row in result["rows"] if row["piece"] != EPOCH]
    columns = list(dict.fromkeys(row["column"] for row in rows))
    engines = [name for name in columns if name in LABELS.values() and name != NAME]
    others = [name for name in columns if name not in (NAME, *engines)]
    ratios = [(NAME, name) for name in engines] + [(name, NAME) for name in others]
    body = []
    for piece, algo in dict.fromkeys((row["piece"], row["algo"]) for row in rows):
        cells = _cells(result, piece, algo)
        own = cells.get(NAME)
        ms = {name: cell[key] for name, cell in cells.items()}
        line = [f"{piece} {algo}".strip()]
        line += [f"{ms[name]:.4g}" if name in ms else "" for name in columns]
        line += [_ratio(ms.get(over), ms.get(under), 2) for over, under in ratios]
        gflop = f"{own['gflop']:.3g}" if own and own["gflop"] else ""
        body.append([*line, gflop, _above_floor(own, result, key)])
    names = [f"{'eager' if over == NAME else over} / {under}" for over, under in ratios]
    head = ["piece", *columns, *names, "GFLOP", "x floor"]
    return f"In {HEADLINES[result['headline']]}.\n\n" + markdown([head, *body]) if body else ""


def _above_floor(row: Row | None, result: Result, key: str) -> str:
    """Time over that of the products alone at the speed of a large one."""
    if not row or not row["gflop"]:
        return ""
    floor = 1e3 * row["gflop"] / result["peak_gflops"][row["matmul_precision"]]
    return f"{row[key] / floor:.2f}"


def _epoch_table(result: Result) -> str:
    columns = [name for name in LABELS.values() if any(r["column"] == name for r in result["rows"])]
    body = []
    for column in columns:
        lines = [_epoch_times(result, algo, column) for algo in ADVERSARIAL]
        if any(any(line) for line in lines):
            body += _epoch_rows(lines, "" if column == NAME else f", {column}")
    if not body:
        return ""
    head = ["epoch", "measured, ms per step", "steps/s", "from its pieces, ms per step", "steps/s"]
    return markdown([head, *body]) + _measured_part(result)


def _epoch_times(result: Result, algo: str, column: str) -> tuple[float | None, float | None]:
    """Milliseconds per step, measured and estimated."""
    return find(result, EPOCH, algo, column), estimated_epoch(result, algo, column)


def _epoch_rows(lines: Sequence[tuple[float | None, float | None]], suffix: str) -> list[list[str]]:
    body = []
    for algo, times in zip(ADVERSARIAL, lines, strict=True):
        cells = [[f"{ms:.4g}", f"{1e3 / ms:.4g}"] if ms else ["", ""] for ms in times]
        body.append([algo + suffix, *cells[0], *cells[1]])
    ratios = [_ratio(romi, rambo, 3) for romi, rambo in zip(*lines, strict=True)]
    return [*body, [f"{' / '.join(ADVERSARIAL)}{suffix}", ratios[0], "", ratios[1], ""]]


def _measured_part(result: Result) -> str:
    """Which part of an epoch was run; nothing where none was."""
    if not any(row["piece"] == EPOCH for row in result["rows"]):
        return ""
    steps = steps_of(result["sizes"]["epoch_share"])
    rows, length = round(ROLLOUT_ROWS * steps / STEPS), result["sizes"]["rollout_length"]
    return (
        f"\n\nMeasured: {steps} of {STEPS} steps ({100 * steps / STEPS:.3g} %) by the real "
        f"trainer, with as many model updates and {ROLLOUTS} rollouts of {rows:,} x {length}; a "
        "third of the samples; evaluation left out, metrics read and weights saved once."
    )


def estimated_epoch(result: Result, algo: str, column: str) -> float | None:
    """Milliseconds per step of an epoch of 1000 steps, 1000 model updates and 4 rollouts."""
    step = find(result, POLICY_STEP, algo, column)
    update = find(result, MODEL_UPDATE, algo, column)
    rollout = find(result, ROLLOUT, "", column)
    if step is None or update is None or rollout is None:
        return None
    per_row = rollout / result["sizes"]["rollout_rows"]
    return step + update + ROLLOUTS / STEPS * per_row * ROLLOUT_ROWS


def _ratio(left: float | None, right: float | None, digits: int) -> str:
    return f"{left / right:.{digits}f}" if left and right else ""


def _remarks(result: Result) -> str:
    """What the tables lack, and why."""
    lines = [
        f"{row['piece']} {row['algo']}".strip() + f", {row['column']}: {line}."
        for row in result["rows"]
        for line in row.get("told", ())
    ]
    timed = [row for row in result["rows"] if row["piece"] in CAPTURED]
    if timed and all(row["engine"] != "graph" for row in timed):
        lines.append("Captured steps were not timed here.")
    if not result.get("complete", True):
        missing = result["not_timed"]
        count = f"{len(missing)} piece{' was' if len(missing) == 1 else 's were'}"
        lines.append(f"Incomplete: {count} not timed: {', '.join(missing)}.")
    return "\n".join(lines)


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
