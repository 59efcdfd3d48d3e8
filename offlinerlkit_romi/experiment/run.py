"""The front door: train one seed, or several side by side."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import make_engine
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import validate
from offlinerlkit_romi.experiment.context import Context, MakeEngine
from offlinerlkit_romi.experiment.lifecycle import (
    carry_out,
    check_input,
    obtain_data,
    settle_arithmetic,
)
from offlinerlkit_romi.experiment.own_parts import named_parts
from offlinerlkit_romi.experiment.resolve import CALL, Resolved, check_seeds, settle
from offlinerlkit_romi.experiment.resume import find_earlier, starting_point
from offlinerlkit_romi.experiment.seeds import SeedsSummary, run_seeds
from offlinerlkit_romi.experiment.summary import Summary
from offlinerlkit_romi.experiment.user_data import source_of, take_objects
from offlinerlkit_romi.policy_trainer import Callback, EachEpoch, Interrupts, OnEpoch


@overload
def train(
    algo: str,
    *,
    seeds: Sequence[int],
    verbosity: int = 1,
    quiet: bool = False,
    **values: Any,
) -> SeedsSummary: ...


@overload
def train(
    algo: str,
    *,
    seeds: None = None,
    on_epoch: OnEpoch | None = None,
    callbacks: Sequence[Callback] = (),
    verbosity: int = 1,
    quiet: bool = False,
    **values: Any,
) -> Summary: ...


def train(
    algo: str,
    *,
    seeds: Sequence[int] | None = None,
    on_epoch: OnEpoch | None = None,
    callbacks: Sequence[Callback] = (),
    verbosity: int = 1,
    quiet: bool = False,
    **values: Any,
) -> Summary | SeedsSummary:
    """Train a policy.

    Args:
        algo: One of `ALGORITHMS`, such as "romi".
        seeds: Train one run per seed, side by side; the result then holds them all.
        on_epoch: Called with the epoch, from 1, and its row of the curve (keys as in
            `policy_training_progress.csv`), before the callbacks: a callback with nothing else.
        callbacks: Follow the run, may end it well (`StopTraining`); what else one raises ends the
            run with its state saved and comes out of here. See `Callback`.
        verbosity: 0 shows warnings alone, 1 the course of the run in few lines, 2 every line that
            the command shows. All go to the logger "offlinerlkit_romi" of `logging`, which writes
            to stdout; the run's own text file has them in any case.
        quiet: The same as verbosity=0.
        **values: Any setting of the algorithm, by the name `offlinerlkit-romi train <algo> --help`
            shows; `task`, `preset`, `data`, `seed` and `device` among them. `actor`, `critic`,
            `dynamics` and `weighting_net` may be functions of (S, A) that return a module; other
            processes find them by their import path.

    Returns:
        Scores, times and the run's folder; of a run that a callback ended well, why (`stopped`).

    Raises:
        UserError: A setting is wrong, the data cannot be had, or training diverged (of several
            seeds, one that diverged is told in the result).
        TrainingInterrupted: SIGTERM or Ctrl-C; the state is saved, `resume=` goes on.
    """
    if verbosity not in range(3):
        raise UserError(f"verbosity is {verbosity!r}: give 0, 1 or 2")
    heard = 0 if quiet else verbosity
    values, dataset = take_objects(named_parts(values))
    resolved = configure(algo, values)
    own = () if on_epoch is None else (EachEpoch(on_epoch),)
    if seeds is None:
        return run(resolved, dataset=dataset, callbacks=(*own, *callbacks), verbosity=heard)
    if own or callbacks:
        name = "on_epoch" if own else "callbacks"
        raise UserError(
            f"{name} hears of one run: leave it out with seeds, or train each by itself"
        )
    chosen = check_seeds(seeds, values)
    return run_seeds(resolved, chosen, dataset=dataset, source=CALL, verbosity=heard)


def configure(algo: str, values: Mapping[str, Any]) -> Resolved:
    """The configuration of some values, or of the run that `resume` names with them on top.

    Raises:
        UserError: A value is wrong, or there is no such run.
    """
    start = starting_point(algo, values)
    if start is None:
        return settle(algo, values)
    resolved = start.override(values, CALL)
    validate(resolved.config)
    return resolved


def run(
    resolved: Resolved,
    argv: Sequence[str] | None = None,
    *,
    dataset: Dataset | None = None,
    callbacks: Sequence[Callback] = (),
    make_engine: MakeEngine = make_engine,
    verbosity: int = 2,
) -> Summary:
    """Carry out a resolved configuration, on `dataset` where it alone cannot say which."""
    start, config = time.perf_counter(), resolved.config
    source = source_of(config, dataset)
    device = check_input(config, source)
    earlier = find_earlier(resolved)
    settle_arithmetic(config, earlier, device)
    dataset = obtain_data(config, source, earlier, progress=verbosity > 0)
    words = list(sys.argv if argv is None else argv)
    context = Context(resolved, earlier, dataset, device, words, start, Interrupts())
    return carry_out(
        replace(context, callbacks=callbacks, make_engine=make_engine, verbosity=verbosity)
    )
