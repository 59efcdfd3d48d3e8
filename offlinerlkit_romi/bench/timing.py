# ruff: noqa: T201
"""A whole benchmark: time what was asked for, and keep what there is after every piece."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.engines import engines_beside_eager
from offlinerlkit_romi.bench.measure import Work, peak_gflops
from offlinerlkit_romi.bench.pieces import FULL_PRECISION, Piece, Planned, plan, time_piece
from offlinerlkit_romi.bench.report import load_average, rows_of
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
from offlinerlkit_romi.engine.device import machine, resolve_device
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.system.machine import versions

Keep = Callable[[dict[str, Any]], None]
NOT_SIZES = ("task", "device", "precision", "overrides")


def time_all(
    chosen: argparse.Namespace,
    names: Sequence[str],
    algos: Sequence[str],
    argv: Sequence[str],
    keep: Keep,
    **sizes: Any,
) -> dict[str, Any]:
    """Time pieces one after the other.

    Args:
        chosen: The command's arguments.
        names: Of pieces.
        algos: Of algorithms.
        argv: Recorded.
        keep: Hears the result so far after every piece, `complete` only after the last.
        **sizes: Fields of `Workload` that tests make smaller.
    """
    device, task = resolve_device(chosen.device), get_task(chosen.task)
    checkouts = [Checkout(path) for path in chosen.against]
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    workload = _workload(chosen, task, device, sizes)
    engines = engines_beside_eager(chosen.engine, device)
    settings = (workload.precision, FULL_PRECISION if checkouts else workload.precision)
    result: dict[str, Any] = {
        "command": ["offlinerlkit-romi", "bench", *argv],
        "task": task.name,
        "threads": chosen.threads,
        "quick": chosen.quick,
        "engine": chosen.engine,
        "headline": "cpu" if device.type == "cpu" and chosen.threads == 1 else "wall",
        "machine": machine(device),
        "versions": versions(),
        "load_average": {"before": load_average()},
        "against": {x.label: {"commit": x.commit()} for x in checkouts},
        "peak_gflops": {
            name: round(peak_gflops(name, device), 1) for name in dict.fromkeys(settings)
        },
        "sizes": {
            name: getattr(workload, name)
            for name in workload.__dataclass_fields__
            if name not in NOT_SIZES
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(workload, checkouts, names, algos, engines, Path(folder))
        return _in_order(workload, planned, result, keep)


def _in_order(
    workload: Workload, planned: Sequence[Planned], result: dict[str, Any], keep: Keep
) -> dict[str, Any]:
    pieces: list[Piece] = []
    for done, next_piece in enumerate(planned, start=1):
        pieces.append(time_piece(workload, next_piece))
        _tell(f"{done}/{len(planned)} {next_piece}", pieces[-1], result["headline"])
        result["load_average"]["after"] = load_average()
        result["rows"] = rows_of(pieces, result["headline"])
        result["complete"] = done == len(planned)
        result["not_timed"] = [str(piece) for piece in planned[done:]]
        keep(result)
    return result


def _workload(
    chosen: argparse.Namespace, task: Any, device: torch.device, sizes: dict[str, Any]
) -> Workload:
    precision = choose_matmul_precision(chosen.matmul_precision, device)
    workload = Workload(task, device, precision, epoch_share=1.0 if device.type == "cuda" else 0.02)
    workload = replace(workload.quick() if chosen.quick else workload, **sizes)
    asked = {"repeats": chosen.repeats, "steps": chosen.steps, "epoch_share": chosen.epoch_share}
    asked = {name: value for name, value in asked.items() if value is not None}
    return replace(workload, both_precisions=chosen.both_precisions, **asked)


def _tell(which: str, piece: Piece, headline: str) -> None:
    times = [
        f"{_name(timing.work)} {getattr(timing, f'{headline}_ms'):.4g} ms"
        for timing in piece.timings
    ]
    # why a step was not captured after all
    told = [line for timing in piece.timings for line in timing.work.told]
    print("\n".join([f"{which}: {', '.join(times)}", *told]), file=sys.stderr)


def _name(work: Work) -> str:
    return " ".join(filter(None, (work.algo, work.label, work.variant)))
