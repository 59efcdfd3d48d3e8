"""Which pieces there are, and who has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.engines import NAME
from offlinerlkit_romi.bench.epoch import epoch
from offlinerlkit_romi.bench.measure import Timing, Work, measure
from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.theirs import TheirPieces
from offlinerlkit_romi.bench.workload import Workload, write_file

POLICY_STEP, MODEL_UPDATE, EPOCH = "policy step", "model update", "epoch"
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
    engines: Sequence[str],
    folder: Path,
) -> list[Planned]:
    """All that is to be timed, in its order.

    Args:
        workload: The sizes.
        checkouts: Timed beside this package.
        names: Of pieces.
        algos: Of algorithms.
        engines: Timed beside eager steps.
        folder: Where files may lie.
    """
    planned = list(_training(workload, checkouts, names, algos, engines))
    ours, theirs = OurPieces(workload), [TheirPieces(workload, x) for x in checkouts]
    if EPOCH in names:

        def epochs() -> list[Work]:
            # one row per algorithm, but timed in turn: their ratio is asked for
            chosen = [algo for algo in ADVERSARIAL if algo in algos]
            modes = ("eager", *engines)
            return [epoch(workload, algo, folder, mode) for mode in modes for algo in chosen]

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
    engines: Sequence[str],
) -> Iterator[Planned]:
    """What the trainer carries out step by step."""
    everyone: list[OurPieces | TheirPieces] = [OurPieces(workload)]
    everyone += [OurPieces(workload, mode=mode) for mode in engines]
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
