"""What came out of a run: numbers, a table for people, a curve."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.data.benchmarks import origin_of
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.envs.tasks import TASKS
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer.evaluation import Scores
from offlinerlkit_romi.utils.logger import POLICY_ROWS
from offlinerlkit_romi.utils.text import clock, html, number

if TYPE_CHECKING:
    import pandas as pd

OWN_SOURCES = {
    "file": "a file of the user's",
    "arrays": "the user's own data",
    "minari": "Minari data (not D4RL)",
}
ESTIMATES = {
    "behaviour": "data's own value",
    "fqe_behaviour": "FQE of the data's policy",
    "fqe": "FQE estimate",
    "model": "model estimate",
}
PROGRESS = f"record/{POLICY_ROWS}.csv"
PHASES = ("policy_step", "model_update", "rollout", "evaluation", "evaluation_worker")


@dataclass(frozen=True)
class Summary:
    """The result of one run; scores are normalised (0 random, 100 expert), NaN where unknown.

    A field that comes new has a default, so that summaries written before it are read.

    Attributes:
        run_dir: The run's folder.
        algo: Algorithm.
        task: Task.
        data_source: "generated", "file", or the benchmark's label ("d4rl", ...); a score means
            nothing without it.
        seed: The run's seed.
        steps: Policy steps taken.
        score_first: Score of the first evaluation.
        score_last: Score of the last evaluation.
        score_last10_mean: Mean score of the last ten evaluations.
        score_best: Best score; chosen with hindsight, not a result to report.
        score_behaviour: Score of the data's own episodes.
        returns: Undiscounted returns where the task has no score scale: first, last, last10_mean,
            best, behaviour; empty otherwise.
        estimates: Discounted values where there is no simulator, none of them a score: fqe, model,
            behaviour, fqe_behaviour, each fqe with its spread (`_std`) and whether it settled
            (`_settled`, 1 or 0; without a value where not); empty otherwise.
        wall_seconds: Seconds from start to end, data and pre-training included.
        ms_per_policy_step: Milliseconds per policy update.
        ms_per_model_update: Milliseconds per model update, of which a round has K.
        ms_per_rollout: Milliseconds per rollout of all its start states.
        ms_per_evaluation: Milliseconds that training waits per evaluation of all its episodes.
        ms_per_evaluation_worker: Milliseconds of a worker process per evaluation; NaN without one.
        evaluations: How many there were; None in a summary of a version that did not say.
        counts: How often each part of the algorithm was done that is not done at every policy step:
            rollouts, model_updates, actor_updates, those it has.
        stopped: Why a callback ended the run before its last epoch; empty where none did.
        peak_memory: Most bytes its process had at once, on the device for CUDA; runs that share a
            process share it.
    """

    run_dir: str
    algo: str
    task: str
    data_source: str
    seed: int
    steps: int
    score_first: float = math.nan
    score_last: float = math.nan
    score_last10_mean: float = math.nan
    score_best: float = math.nan
    score_behaviour: float = math.nan
    returns: dict[str, float] = field(default_factory=dict)
    estimates: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = math.nan
    ms_per_policy_step: float = math.nan
    ms_per_model_update: float = math.nan
    ms_per_rollout: float = math.nan
    ms_per_evaluation: float = math.nan
    ms_per_evaluation_worker: float = math.nan
    evaluations: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    peak_memory: float = math.nan

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Summary:
        """The summary of plain values, None where unknown; of other names none is taken.

        Raises:
            TypeError: They do not say which run it was, or text stands for a number.
        """
        known = {i.name: values[i.name] for i in fields(cls) if values.get(i.name) is not None}
        for item in fields(cls):
            if item.type in ("float", "int") and isinstance(
                known.get(item.name), str | list | dict
            ):
                raise TypeError(f"{item.name} is {known[item.name]!r}")
        for name in ("returns", "estimates"):
            told = known.get(name, {})
            known[name] = {key: math.nan if x is None else x for key, x in told.items()}
        return cls(**known)

    @property
    def last_count(self) -> int:
        """Evaluations that the mean of the last ten is taken over."""
        return min(self.evaluations or 10, 10)

    def result(self, name: str) -> float:
        """First, last, last10_mean, best or behaviour: a return where the task has no scores."""
        return self.returns.get(name, float(getattr(self, f"score_{name}")))

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the attributes' names."""
        return asdict(self)

    def title(self) -> str:
        """What was run, with its data source."""
        return title_of(self.algo, self.task, self.data_source, self.seed)

    def _score_rows(self, label: str) -> list[tuple[str, str, str]]:
        kind = "return" if self.returns else "score"
        return [
            (f"data's own {kind}", number(self.result("behaviour")), label),
            ("first evaluation", number(self.result("first")), ""),
            ("last evaluation", number(self.result("last")), ""),
            (f"mean of the last {self.last_count}", number(self.result("last10_mean")), ""),
            ("best evaluation", number(self.result("best")), "chosen with hindsight"),
        ]

    def _estimate_rows(self, label: str) -> list[tuple[str, str, str]]:
        found, rows = self.estimates, []
        for name, title in ESTIMATES.items():
            note = f"discounted; {label}" if name == "behaviour" else "an estimate, not a score"
            if name.startswith("fqe") and f"{name}_std" in found:
                note = f"± {found[f'{name}_std']:.2g} among its fits; {note}"
            if name in found:
                rows.append((title, f"{found[name]:.4g}", note))
            elif found.get(f"{name}_settled") == 0:
                rows.append((title, "-", "did not settle: no value"))
        return rows

    def rows(self) -> list[tuple[str, str, str]]:
        """The closing table's lines: name, value, note."""
        label = source_label(self.data_source, self.task)
        return [
            *(self._score_rows(label) if not self.estimates else self._estimate_rows(label)),
            *[
                (name.replace("_", " "), f"{count:,}", "" if count else "never in this run")
                for name, count in self.counts.items()
            ],
            *[
                (f"ms per {name.replace('_', ' ')}", number(getattr(self, f"ms_per_{name}")), "")
                for name in PHASES
            ],
            ("time", clock(self.wall_seconds), f"{self.steps:,} policy steps"),
            *([("ended early", "", self.stopped)] if self.stopped else []),
        ]

    def table(self) -> str:
        """The closing table."""
        lines = [f"  {name:<25}{value:>9}  {note}".rstrip() for name, value, note in self.rows()]
        return "\n".join([self.title(), *lines])

    def _repr_html_(self) -> str:
        return html(self.title(), self.rows())

    def curve(self) -> pd.DataFrame:
        """The run's curve, a row per epoch, see `Run.curve`.

        Raises:
            UserError: Its file is damaged.
        """
        return read_curve(self.run_dir)


def _of_scores(history: Sequence[Scores]) -> dict[str, float]:
    """First, last, mean of the last ten, and best."""
    values = [scores.mean for scores in history] or [math.nan]
    last = values[-10:]
    return {
        "first": values[0],
        "last": values[-1],
        "last10_mean": sum(last) / len(last),
        "best": max(values),
    }


def summarize(
    history: Sequence[tuple[int, Scores]],
    timings: Mapping[str, float],
    *,
    return_behaviour: float = math.nan,
    **facts: Any,
) -> Summary:
    """Make a summary from a trainer's evaluations and times, and what the run knows of itself."""
    seen = [scores for _, scores in history]
    unscaled = [scores for scores in seen if scores.scale == "return"]
    scores = _of_scores([] if unscaled else seen)
    returns = _of_scores(unscaled) | {"behaviour": return_behaviour} if unscaled else {}
    return Summary(
        score_first=scores["first"],
        score_last=scores["last"],
        score_last10_mean=scores["last10_mean"],
        score_best=scores["best"],
        returns=returns,
        evaluations=len(history),
        **{f"ms_per_{name}": timings.get(name, math.nan) for name in PHASES} | facts,
    )


def read_rows(run_dir: str | Path) -> list[dict[str, float]]:
    """A run's progress, a row per epoch; cells without a number are left out.

    Raises:
        UserError: It is damaged.
    """
    path = Path(run_dir) / PROGRESS
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items() if key and value}
                for row in csv.DictReader(file)
            ]
    except OSError:  # stopped before its first row
        return []
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_curve(run_dir: str | Path) -> pd.DataFrame:
    """The same as a frame, NaN where a cell holds no number."""
    import pandas

    rows = read_rows(run_dir)
    names = list(dict.fromkeys(["timestep", *chain.from_iterable(rows)]))
    return pandas.DataFrame(rows, columns=names).astype({"timestep": int})


def title_of(label: str, task: str, source: str, seed: int) -> str:
    """What was run, with its data source, so that it is not taken for another benchmark's."""
    return f"{label} on {task}, {source_label(source, task)}, seed {seed}"


def source_label(source: str, task: str) -> str:
    """How a data source of a task is written beside a score."""
    if task not in TASKS:
        return OWN_SOURCES.get(source, "data of the user's")
    origin = origin_of(get_task(task))
    if source == origin.label:
        return f"{origin.title} data"
    made = "generated data" if source == "generated" else f"data from a {source}"
    return f"{made} (not {origin.title})"
