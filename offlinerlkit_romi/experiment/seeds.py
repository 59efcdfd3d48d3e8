"""Several seeds of one configuration side by side in one process.

Each seed is a whole run in a thread: its own folder, logger, generators, networks, checkpoints and
evaluation, and on CUDA a stream of its own. Shared are the data set, which nobody writes to, and
the process's arithmetic (threads, matmul kernels), which is settled before they start. So a seed's
result is that of its run alone, bit for bit on a CPU.
"""

from __future__ import annotations

import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.lifecycle import (
    carry_out,
    check_input,
    obtain_data,
    settle_arithmetic,
)
from offlinerlkit_romi.experiment.resolve import COMMAND_LINE, Resolved
from offlinerlkit_romi.experiment.resume import AUTO, Runs, check_data, find_earlier
from offlinerlkit_romi.experiment.summary import Summary
from offlinerlkit_romi.experiment.user_data import source_of
from offlinerlkit_romi.policy_trainer import EachEpoch, Follower, Interrupts
from offlinerlkit_romi.system.machine import usable_cores
from offlinerlkit_romi.utils.text import html, number

if TYPE_CHECKING:
    import pandas as pd

LATE_IMPORTS = (
    *("torch.utils.tensorboard", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("gymnasium", "mujoco", "tqdm"),
)
SIDE_BY_SIDE = "seeds side by side"
WAIT_SECONDS = 0.2
PATIENCE_SECONDS = 10.0  # for runs to end at the second signal

SHOWN = ("last", "last10_mean", "best")

MakeContext = Callable[..., Context]
OnSeedEpoch = Callable[[int, int, Mapping[str, float]], object]


@dataclass(frozen=True)
class SeedsSummary:
    """What came out of several seeds.

    Attributes:
        title: What was run.
        summaries: By seed, those that ended well.
        failures: By seed, why the others did not.
    """

    title: str
    summaries: dict[int, Summary]
    failures: dict[int, UserError]

    @property
    def only_diverged(self) -> bool:
        """Whether whatever failed, diverged."""
        return all(isinstance(error, DivergedError) for error in self.failures.values())

    def rows(self) -> list[list[str]]:
        """A head, a line per seed, mean and standard deviation over the seeds."""
        count = min((s.last_count for s in self.summaries.values()), default=10)
        head = ["seed", "last", f"last {count}", "best", "folder"]
        rows = [self._row(seed) for seed in sorted(self.summaries.keys() | self.failures.keys())]
        return [head, *rows, *self._spread()]

    def table(self) -> str:
        """`rows` for a terminal."""
        lines = [
            f"  {name:<8}{''.join(f'{cell:>9}' for cell in cells[:3])}  {'  '.join(cells[3:])}"
            for name, *cells in self.rows()
        ]
        return "\n".join([self.title, *map(str.rstrip, lines)])

    def _repr_html_(self) -> str:
        return html(self.title, self.rows())

    def curve(self) -> pd.DataFrame:
        """The curves of those that ended well in one frame, see `load_runs`."""
        from offlinerlkit_romi.experiment.runs import load_runs

        return load_runs([summary.run_dir for summary in self.summaries.values()])

    def _row(self, seed: int) -> list[str]:
        if seed in self.failures:
            kind = "diverged" if isinstance(self.failures[seed], DivergedError) else "failed"
            return [str(seed), kind]
        summary = self.summaries[seed]
        return [str(seed), *(number(summary.result(name)) for name in SHOWN), summary.run_dir]

    def _spread(self) -> list[list[str]]:
        """Mean and standard deviation (of the sample: n - 1) of each column."""
        columns = [[s.result(name) for s in self.summaries.values()] for name in SHOWN]
        count = len(self.summaries)
        means = ["mean", *(number(float(np.mean(c))) for c in columns), f"of {count} seeds"]
        if count < 2:
            return [means] if count else []
        return [means, ["std", *(number(float(np.std(c, ddof=1))) for c in columns)]]


@dataclass
class _Job:
    """One seed's run, and what became of it."""

    seed: int
    row: int
    resolved: Resolved
    earlier: RunFolder | None = None
    summary: Summary | None = None
    error: BaseException | None = None

    @property
    def open(self) -> bool:
        return self.summary is None and self.error is None


def run_seeds(
    resolved: Resolved,
    seeds: Sequence[int],
    argv: Sequence[str] | None = None,
    *,
    dataset: Dataset | None = None,
    source: str = COMMAND_LINE,
    verbosity: int = 2,
    on_epoch: OnSeedEpoch | None = None,
) -> SeedsSummary:
    """Carry out a configuration once per seed, side by side.

    Args:
        resolved: The configuration; its own seed does not count.
        seeds: One run each.
        argv: The command line, for the record.
        dataset: The transitions, where the configuration alone cannot say which.
        source: Who asked for the seeds, for the record.
        verbosity: See `train`.
        on_epoch: Hears of seed, epoch and row of every curve, in the seed's thread.

    Returns:
        All that ended well or diverged; one that diverges does not stop the others.

    Raises:
        UserError: Nothing could be started.
        TrainingInterrupted: SIGTERM or Ctrl-C; every run has saved its state.
    """
    start = time.perf_counter()
    whose = source_of(resolved.config, dataset)
    device = check_input(resolved.config, whose)
    at_once = len(seeds) if device.type == "cuda" else min(len(seeds), usable_cores())
    settings = _settings(resolved, at_once, device)
    jobs = [
        _Job(seed, row, resolved.override({"seed": seed}, source).override(settings, SIDE_BY_SIDE))
        for row, seed in enumerate(seeds)
    ]
    if resolved.config.resume == AUTO:
        _find_earlier(jobs)
    earlier = [job.earlier for job in jobs if job.earlier is not None]
    first, config = next(iter(earlier), None), jobs[0].resolved.config
    settle_arithmetic(config, first, device)
    dataset = obtain_data(config, whose, first, progress=verbosity > 0)
    for run in earlier[1:]:
        check_data(run, dataset)
    words = list(sys.argv if argv is None else argv)
    make = partial(
        _make,
        on_epoch,
        dataset=dataset,
        device=device,
        argv=words,
        start=start,
        verbosity=verbosity,
    )
    _side_by_side([job for job in jobs if job.open], make, at_once)
    return _collect(resolved, jobs, argv)


def _make(on_epoch: OnSeedEpoch | None, resolved: Resolved, *args: Any, **settings: Any) -> Context:
    if on_epoch is not None:
        settings["callbacks"] = (EachEpoch(partial(on_epoch, resolved.config.seed)),)
    return Context(resolved, *args, **settings)


def _settings(resolved: Resolved, at_once: int, device: torch.device) -> dict[str, Any]:
    """What suits runs side by side, where it was not asked for."""
    config = resolved.config
    settings: dict[str, Any] = {}
    if not config.threads:
        settings["threads"] = 1
    if config.eval_async is None and device.type != "cuda":
        settings["eval_async"] = usable_cores() >= 2 * at_once
    return settings


def _find_earlier(jobs: Sequence[_Job]) -> None:
    """Which to go on with, which are done; where all are done, as with one seed, all anew."""
    runs = Runs()
    for job in jobs:
        try:
            job.earlier = find_earlier(job.resolved, runs)
        except UserError as error:  # the newest one has diverged: the others go on
            job.error = DivergedError(str(error))
            continue
        finished = runs.finished(job.resolved) if job.earlier is None else None
        job.summary = None if finished is None else finished.summary
    if all(job.summary is not None for job in jobs):
        for job in jobs:
            job.summary = None


def _import_first() -> None:
    """What runs import on their way: two threads in one import may see half a module."""
    make_adam([torch.zeros(1, requires_grad=True)], 1e-3)  # torch then imports half of itself
    for name in LATE_IMPORTS:
        with suppress(ImportError):
            import_module(name)


def _side_by_side(jobs: Sequence[_Job], make: MakeContext, at_once: int) -> None:
    waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    _import_first()
    abandoned = threading.Event()
    with Interrupts() as interrupts, interrupts.deferred():
        follower = Follower(interrupts, abandoned)
        threads = [
            threading.Thread(target=_serve, args=(waiting, make, follower), daemon=True)
            for _ in range(min(at_once, len(jobs)))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(WAIT_SECONDS)
        except KeyboardInterrupt:
            abandoned.set()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
            raise


def _serve(waiting: queue.SimpleQueue[_Job], make: MakeContext, follower: Follower) -> None:
    while True:
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            follower.check()
            label = f"seed {job.seed} | "
            context = make(job.resolved, job.earlier, interrupts=follower, label=label, row=job.row)
            with _own_stream(context.device):
                job.summary = carry_out(context)
        except BaseException as error:  # told by the main thread
            job.error = error


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """A stream per run: the kernels of one do not wait for those of another."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream(device)):
        yield


def _resume_command(argv: Sequence[str] | None) -> str:
    if argv is None:
        return "the same call and resume='auto'"
    told = any(word.partition("=")[0] == "--resume" for word in argv)
    return shlex.join([*argv, *([] if told else ["--resume", "auto"])])


def _collect(resolved: Resolved, jobs: Sequence[_Job], argv: Sequence[str] | None) -> SeedsSummary:
    errors = [job.error for job in jobs if job.error is not None]
    for error in errors:  # a bug, before all
        if not isinstance(error, (UserError, KeyboardInterrupt)):
            raise error
    stops = [error for error in errors if isinstance(error, KeyboardInterrupt)]
    if any(not isinstance(stop, TrainingInterrupted) for stop in stops):
        raise KeyboardInterrupt
    if stops:
        raise TrainingInterrupted(
            f"{len(stops)} of {len(jobs)} seeds interrupted; go on with: {_resume_command(argv)}"
        )
    summaries = {job.seed: job.summary for job in jobs if job.summary is not None}
    failures = {job.seed: job.error for job in jobs if isinstance(job.error, UserError)}
    seeds = " ".join(str(job.seed) for job in jobs)
    title = f"{resolved.algo} on {resolved.config.task}, seeds {seeds}"
    return SeedsSummary(title, summaries, failures)
