"""A sweep's trials on Ray Tune: each is a process that trains, and is given again if it dies."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import parse, take_seeds
from offlinerlkit_romi.experiment.limits import MANY
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.experiment.seeds import run_seeds
from offlinerlkit_romi.experiment.sweep.file import ASHA, Axis
from offlinerlkit_romi.experiment.sweep.plan import Plan, Study, Trial
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.system.machine import usable_cores

HERE = "ray"
METRIC, TIME = "score", "epoch"
# Ray counts no users, keeps no logs of its own beside the runs, and stays in the current folder
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
Failures = dict[str, str]
Say = Callable[[str], None]


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Ray on this machine, or the cluster at an address.

    Raises:
        UserError: There is none.
    """
    os.environ.update(QUIET)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what befalls a trial is told here
    here = address == HERE
    own: dict[str, Any] = {"num_cpus": usable_cores(), "include_dashboard": False} if here else {}
    try:
        ray.init(
            "local" if here else address, log_to_driver=False, logging_level=logging.ERROR, **own
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--on {address}: no Ray there ({reason_of(error)}): start it with `ray start --head`, "
            "or leave --on out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def run_on_ray(
    plan: Plan, trials: Sequence[Trial], say: Say, watch: Callable[[], None]
) -> Failures:
    """Carry out trials, as many at a time as there is room for.

    Where the outcome of one decides about others, each study is a search of its own, one after the
    other. It is given its trials that began before, too: they tell it their rows, and go on.

    Args:
        plan: The sweep.
        trials: Its trials that are known.
        say: Hears a line per event.
        watch: Called all along.

    Returns:
        By the trial's name, why it failed.

    Raises:
        TrainingInterrupted: A signal; every run goes on from its last saved state.
    """
    groups: list[Study | None] = [*plan.studies] if plan.file.judges else [None]
    with Interrupts() as interrupts, interrupts.deferred():
        events = _Events(plan, interrupts, say, watch)
        for study in groups:
            own = [trial for trial in trials if study is None or trial.study == study.number]
            _fit(plan, study, own, events)
    return events.failures


def _fit(plan: Plan, study: Study | None, trials: Sequence[Trial], events: _Events) -> None:
    file, settings = plan.file, dict[str, Any]()
    space: dict[str, Any] = {"trial": tune.grid_search([trial.place for trial in trials])}
    if study is not None and study.axes and file.search == "optuna":
        space = {"trial": {"study": study.number, "seeds": list(file.seeds)}}
        settings["search_alg"] = _search(plan, study, trials)
        settings["num_samples"] = max(file.trials, len(trials))
    if file.asha is not None:
        settings["scheduler"] = scheduler(file.mode, **{**ASHA, **file.asha})
    cpus, gpus = plan.room(trials, int(ray.cluster_resources().get("GPU", 0)))
    work = tune.with_parameters(_carry_out, plan=plan, folder=os.getcwd())
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(work, {"cpu": cpus, "gpu": gpus}),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=False, **settings),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=folder,
                failure_config=tune.FailureConfig(max_failures=file.retries),
                callbacks=[events],
                verbose=0,
            ),
        ).fit()


def scheduler(mode: str, grace: int, factor: int) -> ASHAScheduler:
    """Who stops what is behind.

    Args:
        mode: Whether much or little of the metric is wanted.
        grace: Epochs before the first cut.
        factor: One of so many goes on.
    """
    return ASHAScheduler(
        TIME,
        METRIC,
        mode,
        max_t=MANY,  # nobody is stopped for having come to the end
        grace_period=grace,
        reduction_factor=factor,
    )


def _search(plan: Plan, study: Study, trials: Sequence[Trial]) -> Any:
    """Optuna, which first asks for the combinations that began before."""
    from optuna import distributions, samplers
    from optuna import logging as optuna_logging
    from ray.tune.search.optuna import OptunaSearch

    optuna_logging.set_verbosity(optuna_logging.WARNING)

    def distribution(axis: Axis) -> Any:
        if axis.range is None:
            return distributions.CategoricalDistribution(list(axis.choices))
        low, high = axis.range.low, axis.range.high
        if axis.range.whole:
            return distributions.IntDistribution(int(low), int(high), log=axis.range.log)
        return distributions.FloatDistribution(low, high, log=axis.range.log)

    begun = [
        {_key(axis): axis.number(trial.point[axis.name]) for axis in study.axes} for trial in trials
    ]
    return OptunaSearch(
        {_key(axis): distribution(axis) for axis in study.axes},
        metric=METRIC,
        mode=plan.file.mode,
        points_to_evaluate=begun or None,
        # with the seed of the first go it would draw what it drew then
        sampler=samplers.TPESampler(seed=plan.file.search_seed + len(begun)),
    )


def _key(axis: Axis) -> str:
    return f"trial/point/{axis.name}"


class _Events(tune.Callback):
    """Tells what happens, hears a signal."""

    def __init__(
        self, plan: Plan, interrupts: Interrupts, say: Say, watch: Callable[[], None]
    ) -> None:
        self._plan, self._interrupts, self._say, self._watch = plan, interrupts, say, watch
        self.failures: Failures = {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self._interrupts.check()
        self._watch()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._tell(trial, "started")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._tell(trial, "ended")

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._tell(trial, "died: it goes on from its last saved state")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        why = self.failures[self._name(trial)] = _why(trial)
        self._tell(trial, f"failed: {why}")

    def _tell(self, trial: Any, what: str) -> None:
        self._say(f"{self._name(trial)}: {what}")

    def _name(self, trial: Any) -> str:
        return self._plan.trial(**trial.config["trial"]).name


def _why(trial: Any) -> str:
    """The last line of what Ray tells of a trial's end."""
    told = Path(trial.error_file).read_text("utf-8") if trial.error_file else ""
    if "ActorDied" in told or not told.strip():
        return "its process died"
    return told.strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")


def _carry_out(config: Mapping[str, Any], plan: Plan, folder: str) -> None:
    """In a process of Ray's: make what is missing of a trial, and report its epochs."""
    os.chdir(folder)
    plan = Plan(plan.path, plan.file)  # its studies are made here, with what they import
    trial, runs = plan.trial(**config["trial"]), Runs()
    reports = _Reports(plan, trial, runs)
    if not trial.missing(runs):
        return
    words = ["train", *trial.words(runs)]
    seeds, rest = take_seeds(words[2:])
    resolved = parse(ALGORITHMS.take(words[1]), rest)
    summary = run_seeds(resolved, seeds or [], words, on_epoch=reports.hear)
    if summary.failures and not summary.only_diverged:
        raise UserError("; ".join(f"seed {s}: {e}" for s, e in summary.failures.items()))


class _Reports:
    """Reports, of every epoch that all seeds have, what the trial is worth so far."""

    def __init__(self, plan: Plan, trial: Trial, runs: Runs) -> None:
        self._plan, self._told, self._lock = plan, 0, threading.Lock()
        self._rows: dict[int, dict[int, Mapping[str, float]]] = {j.seed: {} for j in trial.jobs}
        for record in trial.records(runs):
            for row in [] if record.run is None else record.run.rows():
                epoch = int(row["timestep"]) // trial.config.step_per_epoch
                self._rows[record.seed][epoch] = row
        self._report()

    def hear(self, seed: int, epoch: int, row: Mapping[str, float]) -> None:
        """A row of a seed's curve is there."""
        with self._lock:
            self._rows[seed][epoch] = row
            self._report()

    def _report(self) -> None:
        common = set.intersection(*(set(rows) for rows in self._rows.values()))
        for epoch in sorted(epoch for epoch in common if epoch > self._told):
            self._told = epoch
            value = fmean(self._plan.measured(until(rows, epoch)) for rows in self._rows.values())
            if not math.isnan(value):
                tune.report({METRIC: value, TIME: epoch})


def until(rows: Mapping[int, Mapping[str, float]], epoch: int) -> list[Mapping[str, float]]:
    """The rows up to an epoch, in their order."""
    return [rows[number] for number in sorted(rows) if number <= epoch]
