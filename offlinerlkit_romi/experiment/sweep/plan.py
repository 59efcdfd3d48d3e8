"""What a sweep runs: combinations of task, algorithm and options, each on every seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError, unknown_name
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.compare.plan import Job, jobs_of
from offlinerlkit_romi.experiment.compare.records import RunRecord
from offlinerlkit_romi.experiment.config import RunConfig, flag, hints
from offlinerlkit_romi.experiment.resolve import config_type_of
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.experiment.sweep.file import Axis, SweepFile, read_axes, read_sweep
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS
from offlinerlkit_romi.system.machine import usable_cores
from offlinerlkit_romi.utils.logger import ROOT_DIR

Point = Mapping[str, str]  # the word of each axis' value, by the axis' name
# what a sweep file has keys for, or a sweep settles by itself
KEYS = {
    "task": "name it under tasks",
    "seed": "list it under seeds",
    "seeds": "it is a key of its own, not an option",
    "resume": "runs that stopped are gone on with by themselves",
    "algo_name": "a sweep names its runs by their axes",
}


@dataclass(frozen=True)
class Trial:
    """One process: a combination on some seeds side by side.

    Attributes:
        jobs: Its runs.
        study: The number of its study.
        point: The values of its axes.
    """

    jobs: tuple[Job, ...]
    study: int
    point: Point

    @property
    def name(self) -> str:
        """As it is spoken of."""
        seeds = ",".join(str(job.seed) for job in self.jobs)
        return f"{self.config.task} {self.jobs[0].label} seed {seeds}"

    @property
    def place(self) -> dict[str, Any]:
        """What `Plan.trial` makes it from."""
        seeds = [job.seed for job in self.jobs]
        return {"study": self.study, "point": dict(self.point), "seeds": seeds}

    @property
    def config(self) -> RunConfig:
        """The configuration of its first run."""
        return self.jobs[0].resolved.config

    def missing(self, runs: Runs) -> list[Job]:
        """Its runs that are still to be made, or to be gone on with."""
        records = [(job, job.find(runs)) for job in self.jobs]
        return [job for job, told in records if told is None or told.status == "unfinished"]

    def records(self, runs: Runs) -> list[RunRecord]:
        """Its runs as far as there are any."""
        found = [job.find(runs) for job in self.jobs]
        return [record for record in found if record is not None]

    def words(self, runs: Runs) -> list[str]:
        """What follows `train` on the command line that makes what is missing."""
        seeds = [str(job.seed) for job in self.missing(runs)]
        algo, *words = self.jobs[0].words[:-2]
        return [ALGORITHMS.spelled(algo), *words, "--seeds", *seeds, "--resume", "auto"]


@dataclass(frozen=True)
class Study:
    """A task and an algorithm, and what is varied there.

    Attributes:
        number: Its place among the studies.
        algo: The algorithm.
        words: The options that are not varied.
        axes: Those that are.
    """

    number: int
    algo: str
    words: tuple[str, ...]
    axes: tuple[Axis, ...]

    @cached_property
    def config(self) -> RunConfig:
        """The configuration of its runs, as far as it is not varied."""
        return parse(self.algo, list(self.words)).config

    def grid(self) -> Iterator[Point]:
        """All combinations."""
        for values in itertools.product(*(axis.choices for axis in self.axes)):
            yield dict(zip([axis.name for axis in self.axes], values, strict=True))

    def draws(self, count: int, seed: int) -> list[Point]:
        """Random combinations, the same ones for every task; fewer where axes have fewer."""
        draw = random.Random(seed)
        points = [{axis.name: _drawn(axis, draw) for axis in self.axes} for _ in range(count)]
        return list({tuple(point.items()): point for point in points}.values())

    def trial(self, point: Point, seeds: Sequence[int]) -> Trial:
        """The trial of a combination.

        Raises:
            UserError: A value makes no sense.
        """
        jobs = jobs_of(self.algo, seeds, [*self.words, *self._own(point)])
        return Trial(tuple(jobs), self.number, point)

    def point(self, label: str) -> Point | None:
        """What a label tells of its combination; None for one of another study."""
        pairs = [part.partition("=") for part in label.split(",")[1:]]
        point = {name: word for name, _, word in pairs}
        fits = list(point) == [axis.name for axis in self.axes]
        return point if fits and all(axis.has(point[axis.name]) for axis in self.axes) else None

    def _own(self, point: Point) -> list[str]:
        """The words of a combination, with a name for its row of the table."""
        if not point:
            return []
        words = [
            w for axis in self.axes for w in _as_words(axis.name, axis.value(point[axis.name]))
        ]
        name = ",".join([self.algo, *(f"{name}={word}" for name, word in point.items())])
        return [*words, "--algo-name", name]


@dataclass(frozen=True)
class Plan:
    """A sweep: the path of its file, and what stands there."""

    path: Path
    file: SweepFile

    @property
    def algorithms(self) -> list[str]:
        """Their names; the user's own are imported, in another process again."""
        return [ALGORITHMS.take(word) for word in self.file.algorithms]

    @cached_property
    def studies(self) -> list[Study]:
        """Every task with every algorithm.

        Raises:
            UserError: Something of the file makes no sense.
        """
        with self._told():
            algos = self.algorithms
            for algo in algos:
                config_type_of(algo)
            for task in self.file.tasks:
                get_task(task)
            # an option is an axis of one value
            options = {name: [value] for name, value in (self.file.options or {}).items()}
            fixed = tuple(read_axes(options, "options"))
            axes = tuple(read_axes(self.file.axes or {}, self.file.search))
            self._check(fixed, axes)
            tasks: list[tuple[str, ...]] = [("--task", task) for task in self.file.tasks]
            pairs = itertools.product(tasks or [()], algos)
            return [
                Study(number, algo, (*task, *_fixed(fixed, algo)), _of(axes, algo))
                for number, (task, algo) in enumerate(pairs)
            ]

    def trials(self, study: Study) -> list[Trial]:
        """The trials of a study that are known beforehand; of a search, those begun already.

        Raises:
            UserError: A value makes no sense.
        """
        if self.file.search == "optuna" and study.axes:
            return self._begun(study)
        drawn = self.file.search == "random"
        points = study.draws(self.file.trials, self.file.search_seed) if drawn else study.grid()
        return [trial for point in points for trial in self._trials_at(study, point)]

    def trial(self, study: int, point: Mapping[str, Any], seeds: Sequence[int]) -> Trial:
        """The trial of a combination, its values as words or as numbers of a range."""
        chosen = self.studies[study]
        words = {axis.name: axis.word(point[axis.name]) for axis in chosen.axes}
        return chosen.trial(words, seeds)

    def value(self, row: Mapping[str, float]) -> float | None:
        """The metric in a row of the progress; None where it has none."""
        columns = SCORE_COLUMNS.values() if self.file.metric == "score" else (self.file.metric,)
        return next((row[name] for name in columns if name in row), None)

    def measured(self, rows: Sequence[Mapping[str, float]]) -> float:
        """What a run is worth: the mean of the metric's last ten values; NaN without any."""
        values = [value for row in rows if (value := self.value(row)) is not None]
        return fmean(values[-10:]) if values else math.nan

    def room(self, trials: Sequence[Trial], gpus: int) -> tuple[float, float]:
        """CPU cores and GPUs of a process for some trials, where there are so many GPUs."""
        many = min(max((len(trial.jobs) for trial in trials), default=1), usable_cores())
        wanted = any(trial.config.device != "cpu" for trial in trials)
        default = 1.0 if gpus and wanted else 0.0
        file = self.file
        return file.cpus or many, default if file.gpus is None else file.gpus

    def _trials_at(self, study: Study, point: Point) -> list[Trial]:
        """The trials of one combination; one where its outcome is judged as a whole."""
        seeds = self.file.seeds
        at_once = len(seeds) if self.file.judges else self.file.seeds_per_trial
        parts = [seeds[start : start + at_once] for start in range(0, len(seeds), at_once)]
        with self._told(f"{study.algo}: "):
            return [study.trial(point, part) for part in parts]

    def _begun(self, study: Study) -> list[Trial]:
        config, runs = study.config, Runs()
        folders = (Path(config.log_root or ROOT_DIR) / config.task).glob(f"{study.algo},*&data=*")
        points = map(study.point, sorted({path.name.partition("&data=")[0] for path in folders}))
        trials = [t for point in points if point for t in self._trials_at(study, point)]
        return [trial for trial in trials if trial.records(runs)]

    def _check(self, fixed: Sequence[Axis], axes: Sequence[Axis]) -> None:
        """Refuse what no algorithm of the sweep takes, and what is there twice."""
        algos = self.algorithms
        for place, entries in (("options", fixed), ("axes", axes)):
            for entry in entries:
                if entry.name in KEYS:
                    raise UserError(f"{place}.{entry.name}: {KEYS[entry.name]}")
                if entry.algo and entry.algo not in algos:
                    known = unknown_name("algorithm", entry.algo, algos)
                    raise UserError(f"{place}.{entry.algo}.{entry.name}: {known}")
                if not any(entry.is_for(algo) for algo in algos):
                    settings = {n for algo in algos for n in hints(config_type_of(algo))}
                    raise UserError(f"{place}: {unknown_name('option', entry.name, settings)}")
        for algo in algos:
            names = [axis.name for axis in axes if axis.is_for(algo)]
            if twice := {name for name in names if names.count(name) > 1}:
                raise UserError(f"axes: {algo} has {min(twice)} twice: leave one out")
        if not self.file.tasks and "data" not in {entry.name for entry in (*fixed, *axes)}:
            raise UserError("no tasks: write tasks: [hopper-medium-v2], or options with data")

    @contextmanager
    def _told(self, where: str = "") -> Iterator[None]:
        """Whatever is wrong inside is wrong in the file."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.path}: {where}{error}") from error


def read_plan(path: str) -> Plan:
    """Read a sweep file; nothing is looked up yet.

    Raises:
        UserError: See `read_sweep`.
    """
    return Plan(Path(path), read_sweep(Path(path)))


def _fixed(options: Sequence[Axis], algo: str) -> list[str]:
    return [
        word
        for option in _of(options, algo)
        for value in option.choices.values()
        for word in _as_words(option.name, value)
    ]


def _of(axes: Sequence[Axis], algo: str) -> tuple[Axis, ...]:
    """Those for an algorithm, its own last: they are told after what is for all."""
    return tuple(sorted(filter(lambda axis: axis.is_for(algo), axes), key=lambda axis: axis.algo))


def _as_words(name: str, value: Any) -> list[str]:
    return [flag(name), *map(str, value if isinstance(value, list) else [value])]


def _drawn(axis: Axis, draw: random.Random) -> str:
    if axis.range is not None:
        return axis.range.word(axis.range.at(draw.random()))
    return draw.choice(list(axis.choices))
