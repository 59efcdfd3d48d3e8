"""Which pieces there are, and who has them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.epoch import epoch
from offlinerlkit_romi.bench.measure import Timing, Work, measure
from offlinerlkit_romi.bench.ours import NAME, OurPieces
from offlinerlkit_romi.bench.theirs import TheirPieces
from offlinerlkit_romi.bench.workload import Workload, write_file

POLICY_STEP, MODEL_UPDATE, EPOCH = "policy step", "model update", "epoch, per step"
FIT_STEP, ROLLOUT = "pre-training step", "rollout"
EVALUATION, LOADING = "evaluation", "loading"
PIECES = (POLICY_STEP, MODEL_UPDATE, FIT_STEP, ROLLOUT, EVALUATION, LOADING, EPOCH)
ADVERSARIAL = ("romi", "rambo")
FULL_PRECISION = "highest"


class Piece(NamedTuple):
    """A piece of training and the ways of doing it that were timed."""

    name: str
    algo: str  # "" where the algorithm does not matter
    timings: list[Timing]


def time_pieces(
    workload: Workload,
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    algos: Sequence[str],
    tell: Callable[[Piece], None],
) -> list[Piece]:
    """Time every chosen piece; `tell` hears each as soon as it is done."""
    pieces = []
    with tempfile.TemporaryDirectory() as folder:
        for name, algo, works in _works(workload, checkouts, names, algos, Path(folder)):
            by_hand = name in (EVALUATION, LOADING, EPOCH)  # their products are no part of it
            timings = measure(works, workload.repeats, workload.device, not by_hand)
            pieces.append(Piece(name, algo, timings))
            tell(pieces[-1])
    return pieces


def _works(
    workload: Workload,
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    algos: Sequence[str],
    folder: Path,
) -> Iterator[tuple[str, str, list[Work]]]:
    ours = [OurPieces(workload)]
    if workload.both_precisions and workload.precision != FULL_PRECISION:
        # what of a difference is the setting of the product, and what is not
        ours.append(OurPieces(workload, f"{NAME}, {FULL_PRECISION}", FULL_PRECISION))
    theirs = [TheirPieces(workload, checkout) for checkout in checkouts]
    everyone: list[OurPieces | TheirPieces] = [*ours, *theirs]
    for algo in algos if POLICY_STEP in names else ():
        yield POLICY_STEP, algo, _present(x.policy_step(algo) for x in everyone)
    for algo in ADVERSARIAL if MODEL_UPDATE in names else ():
        if algo in algos:
            yield MODEL_UPDATE, algo, _present(x.model_update(algo) for x in everyone)
    if FIT_STEP in names:
        yield FIT_STEP, "", _present(x.fit_step() for x in everyone)
    if ROLLOUT in names:
        yield ROLLOUT, "", _present(x.rollout() for x in everyone)
    if EPOCH in names:
        # one row per algorithm, but timed in turn: their ratio is asked for
        yield EPOCH, "", [epoch(workload, algo, algo) for algo in ADVERSARIAL if algo in algos]
    if EVALUATION in names:
        own = [ours[0].evaluation(), ours[0].evaluation_one_by_one()]
        yield EVALUATION, "", own + _present(x.evaluation() for x in theirs)
    if LOADING in names:
        path = folder / "rows.hdf5"
        write_file(path, workload.task, workload.load_rows)
        yield LOADING, "", [ours[0].loading(path), *_present(x.loading(path) for x in theirs)]


def _present(works: Iterator[Work | None]) -> list[Work]:
    return [work for work in works if work is not None]
