"""From runs to rows: what a comparison says, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from offlinerlkit_romi.experiment.compare.records import RunRecord
from offlinerlkit_romi.experiment.statistics import (
    REMEDY,
    Estimate,
    can_estimate,
    interquartile_mean,
    mean_and_std,
)
from offlinerlkit_romi.utils.text import clock, number, plus_minus


@dataclass(frozen=True)
class Row:
    """One algorithm over its finished runs; NaN where unknown.

    Attributes:
        label: The algorithm.
        seeds: Seeds of the finished runs.
        others: Runs that did not finish, and what became of them.
        score: Mean over runs of a run's mean of its last ten evaluations.
        std: Its sample standard deviation over runs.
        iqm: Interquartile mean over runs.
        steps: Policy steps of a run.
        steps_per_second: Policy steps per second of training, its rollouts and model updates
            included, evaluation and pre-training not.
        wall_seconds: Mean time of a run from start to end, everything included.
        q_real: Mean Q on data rows in the last epoch.
        q_model: The same on the model's rows.
    """

    label: str
    seeds: Sequence[int]
    others: Sequence[str]
    score: float
    std: float
    iqm: Estimate
    steps: float
    steps_per_second: float
    wall_seconds: float
    q_real: float
    q_model: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values; the IQM's three numbers by name."""
        low_high = {"iqm": self.iqm.value, "iqm_low": self.iqm.low, "iqm_high": self.iqm.high}
        return asdict(self) | low_high


def make_rows(records: Sequence[RunRecord]) -> list[Row]:
    """One row per label, in the order in which they first come."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.label, []).append(record)
    return [_row(label, group) for label, group in groups.items()]


def _row(label: str, records: Sequence[RunRecord]) -> Row:
    done = [record for record in records if record.finished]
    scores = [record.last_ten for record in done]
    score, std = mean_and_std(scores)
    return Row(
        label=label,
        seeds=[record.seed for record in done],
        others=[f"seed {record.seed} {record.why}" for record in records if not record.finished],
        score=score,
        std=std,
        iqm=interquartile_mean([scores]),
        steps=_mean([record.number("steps") for record in done]),
        steps_per_second=_mean([steps_per_second(record) for record in done]),
        wall_seconds=_mean([record.number("wall_seconds") for record in done]),
        q_real=_mean([record.last("q/real") for record in done]),
        q_model=_mean([record.last("q/model") for record in done]),
    )


def steps_per_second(record: RunRecord) -> float:
    """Policy steps per second of training: each with its share of rollouts and model updates."""
    settings = record.settings
    ms = record.number("ms_per_policy_step")
    shares = [("ms_per_rollout", 1, "rollout_freq")]
    shares += [("ms_per_model_update", settings.get("adv_train_steps", 1), "dynamics_update_freq")]
    for name, units, every in shares:
        period = settings.get(every)
        if period and not math.isnan(record.number(name)):
            ms += record.number(name) * units / period
    return 1000 / ms if ms else math.nan


def _mean(values: Sequence[float]) -> float:
    return mean_and_std(values)[0]


COLUMNS: dict[str, Callable[[Row], str]] = {
    "algorithm": lambda row: row.label,
    "runs": lambda row: _runs(row),
    "last 10, mean ± std": lambda row: plus_minus(row.score, row.std),
    "IQM [95 %]": lambda row: row.iqm.text(),
    "steps": lambda row: number(row.steps, ",.0f"),
    "steps/s": lambda row: number(row.steps_per_second, ".1f"),
    "wall time": lambda row: clock(row.wall_seconds),
    "Q data": lambda row: number(row.q_real, ".1f"),
    "Q model": lambda row: number(row.q_model, ".1f"),
}


def cells(rows: Sequence[Row], data_score: float) -> list[list[str]]:
    """Head, rows, and the data's own score as the last line."""
    body = [[show(row) for show in COLUMNS.values()] for row in rows]
    own = ["the data itself", "", number(data_score, ".1f")] + [""] * (len(COLUMNS) - 3)
    return [list(COLUMNS), *body, own]


def make_notes(rows: Sequence[Row], records: Sequence[RunRecord]) -> list[str]:
    """What a reader of the table must know."""
    notes = [
        *_ranking(rows),
        *[f"{row.label}: {other}" for row in rows for other in row.others],
        *_schedules(rows, records),
        *_fits(records),
        *([] if can_estimate() else [REMEDY]),
    ]
    return [
        *notes,
        f"last 10: a run's mean score over its last ten evaluations{_fewer(records)}; mean ± "
        "sample standard deviation over the finished runs",
        "IQM: interquartile mean over runs, percentile bootstrap interval from 10,000 resamples; "
        "of three runs it is their mean, and its interval hardly more than their range",
        "steps/s: training with its rollouts and model updates, without pre-training and "
        "evaluation; times depend on what else the machine does",
        "Q: mean over the last epoch's batches, on the data's rows and on the model's",
    ]


def _fewer(records: Sequence[RunRecord]) -> str:
    """Whose runs have not had ten."""
    counts = {
        record.label: f"{record.label} has {len(record.curve)}"
        for record in records
        if record.finished and len(record.curve) < 10
    }
    return f" ({', '.join(counts.values())})" if counts else ""


def _ranking(rows: Sequence[Row]) -> list[str]:
    """Who is ahead, and where ROMI stands if it is not."""
    counts = {row.label: len(row.seeds) for row in rows}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{label} {count}" for label, count in counts.items())
        return [f"nobody is called ahead: not the same number of finished seeds ({told})"]
    ranked = sorted((row for row in rows if not math.isnan(row.score)), key=lambda row: -row.score)
    if len(ranked) < 2:
        return []
    note = f"highest mean score: {ranked[0].label} ({ranked[0].score:.1f})"
    places = [place for place, row in enumerate(ranked, 1) if row.label == "romi"]
    if places and places[0] > 1:
        romi = ranked[places[0] - 1]
        note += f"; romi ({romi.score:.1f}) is number {places[0]} of {len(ranked)}"
    return [note]


def _schedules(rows: Sequence[Row], records: Sequence[RunRecord]) -> list[str]:
    """Where runs were not given the same time or the same evaluations."""
    notes = []
    lengths = {row.label: row.steps for row in rows if not math.isnan(row.steps)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{label} {steps:,.0f}" for label, steps in lengths.items())
        notes.append(f"not the same number of policy steps: {told}")
    for name, what in (("eval_episodes", "episodes"), ("eval_freq", "epochs")):
        values = {record.label: record.settings.get(name) for record in records if record.settings}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{label} {value}" for label, value in values.items())
            notes.append(f"not the same {name} ({what} per evaluation): {told}")
    return notes


def _fits(records: Sequence[RunRecord]) -> list[str]:
    fits: list[Mapping[str, Any]] = [
        record.manifest["dynamics_fit"]
        for record in records
        if record.finished and record.manifest.get("dynamics_fit")
    ]
    taken = [fit for fit in fits if fit.get("taken")]
    if not taken:
        return []
    seconds = sum(float(fit["seconds"]) for fit in taken) / len(taken)
    return [
        f"{len(taken)} of {len(fits)} dynamics models came from the cache: the wall time of those "
        f"runs lacks the pre-training, {clock(seconds)} on average"
    ]


def _runs(row: Row) -> str:
    total = len(row.seeds) + len(row.others)
    return str(total) if not row.others else f"{len(row.seeds)} of {total}"
