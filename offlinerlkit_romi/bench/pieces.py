# ruff: noqa: T201
"""Which pieces there are and who has them; all of them timed, one after the other."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.measure import Piece, Work, measure, peak_gflops
from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.report import load_average, rows_of
from offlinerlkit_romi.bench.theirs import TheirPieces
from offlinerlkit_romi.bench.workload import (
    ADVERSARIAL,
    EPOCH,
    EVALUATION,
    FIT_STEP,
    FULL_PRECISION,
    LOADING,
    MODEL_UPDATE,
    NAME,
    POLICY_STEP,
    ROLLOUT,
    Workload,
    engines_beside_eager,
    write_file,
)
from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
from offlinerlkit_romi.engine.device import machine, resolve_device
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.system.machine import versions

Keep = Callable[[dict[str, Any]], None]
NOT_SIZES = ("task", "device", "precision", "engines", "make_engine")
WEIGHT_DECAY = 5e-5  # costs the same whatever it is, but for zero


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
        planned = plan(workload, checkouts, names, algos, Path(folder))
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
    engines = engines_beside_eager(chosen.engine, device)
    share = 1.0 if device.type == "cuda" else 0.02
    workload = Workload(task, device, precision, epoch_share=share, engines=engines)
    workload = replace(workload.quick() if chosen.quick else workload, **sizes)
    asked = {"repeats": chosen.repeats, "steps": chosen.steps, "epoch_share": chosen.epoch_share}
    asked = {name: value for name, value in asked.items() if value is not None}
    overrides = {**workload.overrides, **_networks(chosen)}
    return replace(workload, both_precisions=chosen.both_precisions, overrides=overrides, **asked)


def _networks(chosen: argparse.Namespace) -> dict[str, Any]:
    """Settings for the widths and the batch that were asked for."""
    layers = chosen.dynamics_hidden_dims
    names = {
        **{"hidden_dims": chosen.hidden_dims, "weight_hidden_dims": chosen.hidden_dims},
        "dynamics_hidden_dims": layers,
        "dynamics_weight_decay": layers and (WEIGHT_DECAY,) * (len(layers) + 1),
        **dict.fromkeys(("batch_size", "adv_batch_size", "dynamics_batch_size"), chosen.batch_size),
    }
    return {name: value for name, value in names.items() if value is not None}


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


class Planned(NamedTuple):
    """A piece that is to be timed; its works are made when its turn comes."""

    name: str
    algo: str
    works: Callable[[], list[Work]]

    def __str__(self) -> str:
        return f"{self.name} {self.algo}".strip()


def plan(
    workload: Workload,
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    algos: Sequence[str],
    folder: Path,
) -> list[Planned]:
    """All that is to be timed, in its order."""
    planned = list(_training(workload, checkouts, names, algos))
    ours, theirs = OurPieces(workload), [TheirPieces(workload, x) for x in checkouts]
    if EPOCH in names:

        def epochs() -> list[Work]:
            # one row per algorithm, but timed in turn: their ratio is asked for
            chosen = [algo for algo in ADVERSARIAL if algo in algos]
            own = [OurPieces(workload, mode=mode) for mode in ("eager", *workload.engines)]
            return [pieces.epoch(algo, folder) for pieces in own for algo in chosen]

        planned.append(Planned(EPOCH, "", epochs))
    if EVALUATION in names:

        def evaluations() -> list[Work]:
            own = [ours.evaluation(), ours.evaluation_one_by_one()]
            return own + _present(x.evaluation() for x in theirs)

        planned.append(Planned(EVALUATION, "", evaluations))
    if LOADING in names:

        def loadings() -> list[Work]:
            path = folder / "rows.hdf5"
            write_file(path, workload.task, workload.load_rows)
            return [ours.loading(path), *_present(x.loading(path) for x in theirs)]

        planned.append(Planned(LOADING, "", loadings))
    return planned


def time_piece(workload: Workload, planned: Planned) -> Piece:
    """Time a piece's ways in turn."""
    by_hand = planned.name in (EVALUATION, LOADING, EPOCH)  # their products are no part of it
    timings = measure(planned.works(), workload.repeats, workload.device, not by_hand)
    return Piece(planned.name, planned.algo, timings)


def _training(
    workload: Workload,
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    algos: Sequence[str],
) -> Iterator[Planned]:
    """What the trainer carries out step by step."""
    everyone: list[OurPieces | TheirPieces] = [OurPieces(workload)]
    everyone += [OurPieces(workload, mode=mode) for mode in workload.engines]
    if workload.both_precisions and workload.precision != FULL_PRECISION:
        # what of a difference is the setting of the product, and what is not
        everyone.append(OurPieces(workload, f"{NAME}, {FULL_PRECISION}", FULL_PRECISION))
    everyone += [TheirPieces(workload, checkout) for checkout in checkouts]

    def planned(name: str, algo: str, ask: Callable[..., Work | None]) -> Planned:
        return Planned(name, algo, lambda: _present(ask(x) for x in everyone))

    for algo in algos if POLICY_STEP in names else ():
        yield planned(POLICY_STEP, algo, lambda x, algo=algo: x.policy_step(algo))
    for algo in ADVERSARIAL if MODEL_UPDATE in names else ():
        if algo in algos:
            yield planned(MODEL_UPDATE, algo, lambda x, algo=algo: x.model_update(algo))
    if FIT_STEP in names:
        yield planned(FIT_STEP, "", lambda x: x.fit_step())
    if ROLLOUT in names:
        yield planned(ROLLOUT, "", lambda x: x.rollout())


def _present(works: Iterator[Work | None]) -> list[Work]:
    return [work for work in works if work is not None]
