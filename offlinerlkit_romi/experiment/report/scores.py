"""How the algorithms stand: tables, aggregates over tasks, and published numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from offlinerlkit_romi.envs.tasks import canonical
from offlinerlkit_romi.experiment.report.gather import Panel
from offlinerlkit_romi.experiment.report.items import (
    BEST,
    GREY,
    Block,
    Cell,
    Chart,
    Series,
    Table,
    cell,
    interval,
    mean_known,
    spread,
)
from offlinerlkit_romi.experiment.statistics import (
    Estimate,
    Strata,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from offlinerlkit_romi.utils.text import plus_minus

THRESHOLDS = 51  # of a performance profile
IQM = "IQM [95 %]"
RELIABLE = 5  # runs on one task, below which a reader is warned
Wins = dict[tuple[str, str], Estimate]
Aggregates = Mapping[str, Strata]  # of each algorithm the scores of its runs, task by task


def score_blocks(panels: Sequence[Panel]) -> tuple[list[Block], list[str]]:
    """Everything about scores, and what it comes to in sentences."""
    labels = sorted({record.label for panel in panels for record in panel.records})
    scored = [panel for panel in panels if panel.scale == "score"]
    chosen, tasks = widest(scored)
    strata = {label: [panel.results(label) for panel in tasks] for label in chosen}
    means = {label: interquartile_mean(runs) for label, runs in strata.items()}
    ranked = sorted(means, key=lambda label: -_key(means[label], strata[label]))
    wins = _wins(strata, [label for label in ranked if not math.isnan(means[label].value)])
    unit = "0 a random policy's and 100 an expert's" if scored else "an undiscounted return"
    text = (
        f"A run's score is its mean over its last ten evaluations, {unit}; ± is the standard "
        "deviation over seeds. Only finished runs count. Intervals are 95 % bootstrap intervals, "
        "runs resampled within tasks."
    )
    left_out = sorted(set(labels) - set(chosen))
    if left_out and chosen:
        text += f" Not in the charts, for they lack runs on these tasks: {', '.join(left_out)}."
    matrix, details = _matrix(panels, labels, tasks), _details(panels)
    blocks = [
        Block("scores", "Scores", text, [matrix], _charts(means, ranked, strata, wins)),
        Block("details", "Scores in detail", "", [details, *_win_tables(wins)]),
        _published(scored, labels),
    ]
    return blocks, _points(ranked, means, strata, tasks, wins)


def _key(estimate: Estimate, strata: Strata) -> float:
    """What an algorithm is ranked by: its mean where it has too few runs for more."""
    mean = float(np.mean([score for runs in strata for score in runs]))
    return mean if math.isnan(estimate.value) else estimate.value


def widest(panels: Sequence[Panel]) -> tuple[list[str], list[Panel]]:
    """Algorithms and tasks with a score for every pair of them, as many pairs as can be had."""
    have: dict[str, set[int]] = {}
    for place, panel in enumerate(panels):
        for label in panel.runs:
            if panel.results(label):
                have.setdefault(label, set()).add(place)
    order = sorted(have, key=lambda label: (-len(have[label]), label))
    best: tuple[list[str], set[int]] = ([], set())
    for count in range(1, len(order) + 1):
        common = set.intersection(*(have[label] for label in order[:count]))
        if count * len(common) >= len(best[0]) * len(best[1]) and common:
            best = order[:count], common
    return sorted(best[0]), [panels[place] for place in sorted(best[1])]


def _points(
    ranked: Sequence[str],
    means: Mapping[str, Estimate],
    strata: Aggregates,
    tasks: Sequence[Panel],
    wins: Wins,
) -> list[str]:
    """What a reader should take along."""
    if not ranked:
        return ["No finished run has a score yet."]
    first, where = ranked[0], tasks[0].task if len(tasks) == 1 else f"{len(tasks)} tasks"
    told = f"mean score {_key(means[first], strata[first]):.1f}; too few runs for an interval"
    if not math.isnan(means[first].value):
        told = f"interquartile mean {means[first].text()}"
    points = [f"Highest on {where}: {first}, {told}."]
    if len({tuple(map(len, runs)) for runs in strata.values()}) > 1:
        counts = ", ".join(f"{label} {sum(map(len, strata[label]))}" for label in ranked)
        points.append(f"Nobody is called ahead: not as many finished runs of all ({counts}).")
    elif (first, *ranked[1:2]) in wins:
        better = wins[first, ranked[1]]
        sure = "clearly more often than not" if better.low > 0.5 else "undecided: it may be chance"
        sure = "no interval from so few runs" if math.isnan(better.low) else sure
        told = f"with probability {better.text('.2f')}: {sure}."
        points.append(f"A run of {first} beats one of {ranked[1]}, the next, {told}")
    if len(tasks) == 1 and all(len(runs[0]) < RELIABLE for runs in strata.values()):
        points.append(f"Fewer than {RELIABLE} runs of each: a ranking from so few may be chance.")
    return points


def _matrix(panels: Sequence[Panel], labels: Sequence[str], common: Sequence[Panel]) -> Table:
    """As papers print it: a task per row, an algorithm per column."""
    rows = [
        [
            Cell(panel.task),
            cell(panel.first.data_score),
            *_best_marked([panel.results(label) for label in labels]),
        ]
        for panel in panels
        if any(panel.results(label) for label in labels)
    ]
    complete = {label: [panel.results(label) for panel in common] for label in labels}
    means = [
        cell(float(np.mean([np.mean(x) for x in runs])) if runs and all(runs) else math.nan)
        for runs in complete.values()
    ]
    if len(common) > 1:
        rows.append([Cell(f"mean of {len(common)} tasks"), Cell(""), *means])
    return Table(
        "last10",
        "Mean of the last ten evaluations",
        ["task", "data itself", *labels],
        rows,
        "Bold: the highest mean, where all have as many finished runs.",
        left=1,
    )


def _best_marked(results: Sequence[Sequence[float]]) -> list[Cell]:
    known = [np.mean(runs) for runs in results if runs]
    fair = len(known) > 1 and len({len(runs) for runs in results if runs}) == 1
    best = max(known) if fair else math.nan
    return [spread(runs, BEST if runs and np.mean(runs) == best else "") for runs in results]


def _details(panels: Sequence[Panel]) -> Table:
    rows = []
    for panel in panels:
        for label, records in panel.runs.items():
            done = [record for record in records if record.finished]
            count = f"{len(done)} of {len(records)}" if len(done) < len(records) else len(done)
            rows.append(
                [
                    Cell(panel.task),
                    Cell(label),
                    Cell(str(count), len(done)),
                    spread(panel.results(label, "last")),
                    spread(panel.results(label)),
                    interval(interquartile_mean([panel.results(label)])),
                    spread(panel.results(label, "best"), GREY),
                    cell(mean_known(record.number("steps") for record in done), ",.0f"),
                    Cell("return" if panel.scale == "return" else "score"),
                ]
            )
    return Table(
        "scores",
        "Last, mean of the last ten, best",
        [
            *("task", "algorithm", "runs finished", "last", "mean of last 10", IQM),
            *("best (oracle)", "policy steps", "scale"),
        ],
        rows,
        "Best is chosen with hindsight: an oracle's number, not a result to report. IQM: "
        "interquartile mean of the last-ten means, with its bootstrap interval from three runs on.",
    )


def _charts(
    means: Mapping[str, Estimate], ranked: Sequence[str], strata: Aggregates, wins: Wins
) -> list[Chart]:
    known = [label for label in ranked if not math.isnan(means[label].value)]
    if not known:
        return []
    charts = [*_intervals(means, known), *_profiles(strata, known)]
    lead = known[0]
    over = {other: wins[lead, other] for other in known[1:]}
    return [*charts, *([_lead(lead, over)] if over else [])]


def _intervals(means: Mapping[str, Estimate], ranked: Sequence[str]) -> list[Chart]:
    series = [_point(label, label, means[label]) for label in ranked]
    return [Chart("Interquartile mean", "normalised score", "", series, "intervals")]


def _point(label: str, algo: str, estimate: Estimate) -> Series:
    value, low, high = estimate
    band = ([low], [high]) if not math.isnan(low) else ((), ())
    return Series(label, algo, [0.0], [value], *band)


def _profiles(strata: Aggregates, ranked: Sequence[str]) -> list[Chart]:
    scores = [score for label in ranked for runs in strata[label] for score in runs]
    limits = np.linspace(min(0.0, *scores), max(100.0, *scores), THRESHOLDS).tolist()
    series = []
    for label in ranked:
        values, low, high = zip(*performance_profile(strata[label], limits), strict=True)
        band = (low, high) if not math.isnan(low[0]) else ((), ())
        series.append(Series(label, label, limits, values, *band))
    return [Chart("Performance profile", "score τ", "share of runs above τ", series)]


def _wins(strata: Aggregates, ranked: Sequence[str]) -> Wins:
    """Probability of improvement of each over each other."""
    found: Wins = {}
    for place, one in enumerate(ranked):
        for other in ranked[place + 1 :]:
            value, low, high = probability_of_improvement(strata[one], strata[other])
            found[one, other] = Estimate(value, low, high)
            found[other, one] = Estimate(1 - value, 1 - high, 1 - low)
    return found


def _lead(lead: str, wins: Mapping[str, Estimate]) -> Chart:
    series = [_point(f"over {other}", other, estimate) for other, estimate in wins.items()]
    title = f"Probability that {lead} improves"
    return Chart(title, "probability", "", series, "intervals", {"chance": 0.5})


def _win_tables(wins: Wins) -> list[Table]:
    ranked = list(dict.fromkeys(one for one, _ in wins))
    if not ranked:
        return []
    wins = {**wins, **{(one, one): Estimate(math.nan) for one in ranked}}
    rows = [[Cell(one), *[interval(wins[one, x], ".2f") for x in ranked]] for one in ranked]
    return [
        Table(
            "improvement",
            "Probability of improvement",
            ["a run of ... beats one of", *ranked],
            rows,
            "Mean over tasks of the Mann-Whitney statistic; undecided if the interval holds 0.5.",
            left=1,
        )
    ]


@cache
def publications() -> list[dict[str, Any]]:
    """What papers and repositories printed, see `published.yaml`."""
    import yaml

    text = (
        files("offlinerlkit_romi.experiment.report").joinpath("published.yaml").read_text("utf-8")
    )
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def _published(panels: Sequence[Panel], labels: Sequence[str]) -> Block:
    rows = [
        row
        for panel in panels
        for label in labels
        for source in publications()
        for row in _beside(panel, label, source)
    ]
    return Block(
        "published",
        "Published numbers beside these",
        "A published number stands beside ours where data and number of policy steps are the same. "
        "Otherwise it is grey, with the reason: it is not a number to compare with. Simulator "
        "versions differ from the publications' in any case.",
        [
            Table(
                "published",
                "Published numbers",
                [
                    "task",
                    "algorithm",
                    "published by",
                    "why it does not compare",
                    "ours",
                    "published",
                ],
                rows,
                left=4,
            )
        ],
        open=any(not row[3].text for row in rows),
    )


def _beside(panel: Panel, label: str, source: Mapping[str, Any]) -> Iterator[list[Cell]]:
    """A row where the publication has this task and algorithm."""
    if label not in panel.runs:
        return
    record = panel.runs[label][0]
    algo, task = str(record.manifest["algo"]), record.facts["task"]
    value = printed(source["mean"], source["columns"], task, algo)
    if math.isnan(value):
        return
    std = printed(source.get("std", {}), source.get("std_columns", source["columns"]), task, algo)
    why = ", ".join(_reasons(panel, label, source, algo))
    mark = GREY if why else ""
    yield [
        Cell(panel.task),
        Cell(label),
        Cell(source["by"], None, mark),
        Cell(why, None, mark),
        spread(panel.results(label)),
        Cell(plus_minus(value, std), value, mark),
    ]


def printed(rows: Mapping[str, Any], columns: Sequence[str], task: str, algo: str) -> float:
    """A number of a publication's rows; NaN where it has none."""
    values = next((row for name, row in rows.items() if canonical(name) == task), None)
    if values is None or algo not in columns:
        return math.nan
    return float(values[list(columns).index(algo)])


def _reasons(panel: Panel, label: str, source: Mapping[str, Any], algo: str) -> Iterator[str]:
    record = panel.runs[label][0]
    if record.facts["data source"] != source["data"]:
        yield f"other data: {record.facts['data source']}, not {source['data']}"
    steps = source["steps"]
    theirs = steps.get(algo, steps["others"]) if isinstance(steps, dict) else steps
    ours = {planned_steps(record.settings) for record in panel.runs[label]}
    if theirs is None:
        yield "schedule not told"
    elif ours != {theirs}:
        told = " and ".join(f"{x:,}" for x in sorted(ours))
        yield f"other schedule: {told} policy steps, not {theirs:,}"
    if not panel.results(label):
        yield "no finished run"


def planned_steps(settings: Mapping[str, Any]) -> int:
    """Policy steps of a run to its end."""
    return int(settings["epoch"]) * int(settings["step_per_epoch"])
