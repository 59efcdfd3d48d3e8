"""What happened while the runs trained, and what they cost."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.compare.records import RunRecord
from offlinerlkit_romi.experiment.compare.table import steps_per_second
from offlinerlkit_romi.experiment.folder import ESTIMATE, SELECTION
from offlinerlkit_romi.experiment.report.gather import Panel
from offlinerlkit_romi.experiment.report.items import (
    GREY,
    Block,
    Cell,
    Chart,
    Series,
    Table,
    cell,
    line,
    mean_known,
)
from offlinerlkit_romi.experiment.report.scores import planned_steps
from offlinerlkit_romi.experiment.selection import rank_correlation
from offlinerlkit_romi.experiment.statistics import mean_and_std, mean_curve
from offlinerlkit_romi.experiment.summary import ESTIMATES
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS
from offlinerlkit_romi.utils.plotter import AXES
from offlinerlkit_romi.utils.text import clock

STEPS = "policy steps"
SHARE, ERROR = "romi/weight_share_", "model/prediction_error_"


def training_blocks(panels: Sequence[Panel]) -> list[Block]:
    """Curves first, then what explains them."""
    return [
        _block(
            "curves",
            "Learning curves",
            "Mean ± std over seeds of each evaluation, unfinished and diverged runs as far as they "
            "got. The horizontal line is the score of the data's own episodes.",
            panels,
            _curves,
        ),
        _block(
            "q_values",
            "Q against its bound",
            "Mean Q in training batches on the data's rows (solid) and the model's (dashed). The "
            "bound is the most that |Q| can be with these rewards, discount and bonuses, of "
            "several algorithms the smallest; above it critics have left what is possible.",
            panels,
            _q_values,
        ),
        _block(
            "gradients",
            "Gradient norms",
            "Largest norm per epoch of each optimiser's gradient, mean ± std over seeds.",
            panels,
            _gradients,
            unfold=False,
        ),
        _block(
            "weights",
            "ROMI's weights",
            "Share of up to 1,000 of the data's transitions in each tenth of the range of weights: "
            "last epoch solid, first epoch dashed. A peak at an end means that the range binds.",
            panels,
            _weights,
        ),
        _block(
            "model_error",
            "Model error per rollout step",
            "Root mean squared error of the model's mean prediction on held-out pieces of "
            "episodes, open loop: last epoch solid, first epoch dashed. In the units that a model "
            "is trained in, standardised for RAMBO and ROMI: compare like with like.",
            panels,
            _model_error,
        ),
        _estimates(panels),
    ]


def _block(
    name: str,
    title: str,
    text: str,
    panels: Iterable[Panel],
    draw: Callable[[Panel], list[Chart]],
    unfold: bool = True,
) -> Block:
    return Block(name, title, text, (), [x for panel in panels for x in draw(panel)], unfold)


def _lines(panel: Panel, column: str, *, dashed: bool = False, suffix: str = "") -> list[Series]:
    """A line per algorithm that has this column."""
    traces = {label: [x.trace(column) for x in runs] for label, runs in panel.runs.items()}
    found = {label: mean_curve(curves) for label, curves in traces.items()}
    return [
        line(f"{label}{suffix}", label, curve, dashed=dashed)
        for label, curve in found.items()
        if len(curve[0])
    ]


def _curves(panel: Panel) -> list[Chart]:
    series, own = _lines(panel, SCORE_COLUMNS[panel.scale]), panel.first.data_score
    marks = {} if math.isnan(own) else {"the data": own}
    axis = "score" if panel.scale == "score" else AXES[panel.scale]
    return _charts(panel, panel.task, axis, series, marks=marks)


def _charts(panel: Panel, title: str, y: str, series: list[Series], **more: Any) -> list[Chart]:
    more = {"x": STEPS} | more
    return [Chart(title, y=y, series=series, task=panel.task, **more)] if series else []


def _q_values(panel: Panel) -> list[Chart]:
    series = [
        *_lines(panel, "q/real", suffix=", data"),
        *_lines(panel, "q/model", suffix=", model", dashed=True),
    ]
    told = (record.manifest.get("q_bound") for record in panel.records)
    bounds = [float(bound) for bound in told if bound]
    name = "bound" if len({f"{x:.3g}" for x in bounds}) == 1 else "smallest bound"
    marks = {name: min(bounds)} if bounds else {}
    return _charts(panel, panel.task, "mean Q", series, marks=marks)


def _gradients(panel: Panel) -> list[Chart]:
    names = [x for x in panel.columns() if x.startswith("gradient/")]
    return [
        chart
        for name in sorted(names)
        for chart in _charts(
            panel,
            f"{name.removeprefix('gradient/').removesuffix('_optim')} · {panel.task}",
            "largest norm",
            _lines(panel, name),
            log=True,
        )
    ]


def _profile(
    records: Sequence[RunRecord], prefix: str, place: int
) -> list[tuple[int, float, float]]:
    """(number, mean, std over runs) of the columns `prefix1`, `prefix2`, ... in one row of each."""
    values: dict[int, list[float]] = {}
    for record in records:
        for name in {x for row in record.rows for x in row if x.startswith(prefix)}:
            if known := list(record.trace(name).values()):
                values.setdefault(int(name.removeprefix(prefix)), []).append(known[place])
    return [(number, *mean_and_std(values[number])) for number in sorted(values)]


def _first_and_last(
    panel: Panel, prefix: str, place: Callable[[str, int], float], suffixes: tuple[str, str]
) -> list[Series]:
    found = []
    for label, records in panel.runs.items():
        for row, suffix in zip((-1, 0), suffixes, strict=True):
            points = _profile(records, prefix, row)
            if points:
                x = np.array([place(label, number) for number, _, _ in points])
                mean, std = np.array([point[1:] for point in points]).T
                curve = x, mean, np.nan_to_num(std)
                found.append(line(f"{label}, {suffix}", label, curve, dashed=row == 0))
    return found


def _weights(panel: Panel) -> list[Chart]:
    def middle(label: str, tenth: int) -> float:
        low, high = panel.runs[label][0].settings.get("weight_range", (0.0, 1.0))
        return float(low + (high - low) * (tenth - 0.5) / 10)

    series = _first_and_last(panel, SHARE, middle, ("last epoch", "first epoch"))
    return _charts(panel, panel.task, "share", series, kind="steps", x="weight")


def _model_error(panel: Panel) -> list[Chart]:
    series = _first_and_last(
        panel, ERROR, lambda _, step: float(step), ("last epoch", "first epoch")
    )
    return _charts(panel, panel.task, "error", series, x="rollout step")


def _estimates(panels: Sequence[Panel]) -> Block:
    """Estimates without a simulator, and how they rank what a simulator scored."""
    charts: list[Chart] = []
    rows = []
    for panel in panels:
        for name in (x for x in ESTIMATES if ESTIMATE + x in panel.columns()):
            title, column = f"{ESTIMATES[name]} · {panel.task}", ESTIMATE + name
            charts += _charts(panel, title, "discounted value", _lines(panel, column))
            rows += _ranks(panel, ESTIMATES[name], partial(_estimated, column=column))
        for by in ("fqe", "model"):
            rows += _ranks(panel, f"select --by {by}", partial(_selected, by=by))
    note = (
        "Spearman's, over all checkpoints and evaluations that have both; at 1 the estimate would "
        "choose as the score does."
    )
    head = ["task", "algorithm", "estimate", "pairs", "rank correlation with score"]
    table = Table("rank_correlation", "Estimates against scores", head, rows, note, left=3)
    text = "What a policy is worth, told from data alone: discounted values, none of them a score."
    return Block("estimates", "Estimates without a simulator", text, [table], charts)


def _ranks(
    panel: Panel, title: str, pairs_of: Callable[[RunRecord], list[tuple[float, float]]]
) -> list[list[Cell]]:
    rows = []
    for label, records in panel.runs.items():
        pairs = [pair for record in records for pair in pairs_of(record)]
        if pairs:
            names = Cell(panel.task), Cell(label), Cell(title)
            told = cell(rank_correlation(pairs), ".2f")
            rows.append([*names, Cell(str(len(pairs)), len(pairs)), told])
    return rows


def _estimated(record: RunRecord, column: str) -> list[tuple[float, float]]:
    """Estimate and score of the epochs that have both."""
    pairs = record.trace(column).items()
    return [(x, record.curve[step]) for step, x in pairs if step in record.curve]


def _selected(record: RunRecord, by: str) -> list[tuple[float, float]]:
    """Estimate and score of the checkpoints that `select` looked at."""
    assert record.run is not None
    path = record.run.path / SELECTION.format(by=by)
    try:
        found = json.loads(path.read_text("utf-8"))["candidates"]
        pairs = [(x["estimate"], x["score"]) for x in found]
    except OSError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): move it away and select again") from error
    return [(float(one), float(other)) for one, other in pairs if None not in (one, other)]


def speed_block(panels: Sequence[Panel]) -> Block:
    """Times and memory, mean over finished runs."""
    head = [
        *("task", "algorithm", "device", "steps/s", "ms per step", "per rollout"),
        *("per model update", "per evaluation", "time", "peak memory, GB", "planned, GB"),
    ]
    rows = []
    for panel in panels:
        for label, records in panel.runs.items():
            done = [record for record in records if record.finished]
            if done:
                devices = {str(x.manifest["machine"].get("device_name")) for x in done}
                ms = ("policy_step", "rollout", "model_update", "evaluation")
                seconds = mean_known(x.number("wall_seconds") for x in done)
                rows.append(
                    [
                        *(Cell(panel.task), Cell(label), Cell(" and ".join(sorted(devices)))),
                        cell(mean_known(map(steps_per_second, done))),
                        *[
                            cell(mean_known(x.number(f"ms_per_{name}") for x in done), ".2f")
                            for name in ms
                        ],
                        Cell(clock(seconds), seconds),
                        cell(mean_known(x.number("peak_memory") for x in done) / 1e9, ".2f"),
                        cell(mean_known(_planned(x.manifest) for x in done) / 1e9, ".2f"),
                    ]
                )
    note = (
        "steps/s: policy steps with their share of rollouts and model updates, without "
        "pre-training and evaluation. Peak memory is the process's: the device's on CUDA, else the "
        "host's. Planned: data, networks, model buffer and steps on the device. Times depend on "
        "what else the machine did."
    )
    table = Table("speed", "Speed and memory", head, rows, note, left=3)
    return Block("speed", "Speed and memory", "Mean over finished runs.", [table])


def _planned(manifest: Mapping[str, Any]) -> float:
    plan = manifest.get("memory") or {}
    names = ["data", "networks", "working", *(["model_buffer"] * (plan.get("place") == "device"))]
    return float(sum(plan[name] for name in names)) if plan else math.nan


def runs_block(panels: Sequence[Panel]) -> Block:
    """Every run, finished or not."""
    rows = [_run(panel, record) for panel in panels for record in panel.records]
    head = [
        *("task", "algorithm", "status", "folder", "seed", "steps done", "of"),
        *("newest score", "version", "commit"),
    ]
    table = Table("runs", "Every run", head, rows, left=4)
    data = Table(
        "data",
        "Their data",
        ["task", "made from", "simulator", "sha256", "transitions", "data's own score"],
        [_data(panel) for panel in panels],
        left=4,
    )
    text = "Runs that have not finished are in the curves and in no score."
    return Block("runs", "Runs and data", text, [table, data], open=False)


def _run(panel: Panel, record: RunRecord) -> list[Cell]:
    step = int(record.rows[-1]["timestep"]) if record.rows else 0
    folder, versions = record.run, record.manifest["versions"]
    commit = re.sub(r"^(.{10}).*?(-dirty)?$", r"\1\2", str(versions.get("git_commit") or "-"))
    return [
        *(Cell(panel.task), Cell(record.label)),
        Cell(record.why or record.status, None, record.status),
        Cell("" if folder is None else "/".join(folder.path.parts[-2:]), None, GREY),
        *(Cell(str(record.seed), record.seed), Cell(f"{step:,}", step)),
        cell(planned_steps(record.settings), ",.0f"),
        cell(next(reversed(record.curve.values()), math.nan)),
        *(Cell(str(versions.get("offlinerlkit_romi") or "-")), Cell(commit)),
    ]


def _data(panel: Panel) -> list[Cell]:
    record, data = panel.first, panel.first.manifest["data"]
    notes = "; ".join(map(str, data.get("notes") or ())) or "-"
    simulator = f"{record.facts['environment']}, MuJoCo {record.facts['mujoco']}"
    count = data.get("transitions") or math.nan
    return [
        *(Cell(panel.task), Cell(notes), Cell(simulator), Cell(record.facts["data sha256"][:12])),
        *(cell(count, ",.0f"), cell(record.data_score)),
    ]
