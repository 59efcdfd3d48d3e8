"""What shifts of sensors, actuators and the simulator cost, of the runs that were tested."""

from __future__ import annotations

from collections.abc import Sequence

from offlinerlkit_romi.envs.shifts import CLEAN
from offlinerlkit_romi.experiment.compare.records import RunRecord
from offlinerlkit_romi.experiment.folder import ROBUSTNESS
from offlinerlkit_romi.experiment.report.gather import Panel
from offlinerlkit_romi.experiment.report.items import Block, Cell, Chart, Table, cell, line
from offlinerlkit_romi.experiment.robustness import (
    OWN,
    Outcome,
    Outcomes,
    blocks_of,
    panels_of,
    read_outcomes,
)
from offlinerlkit_romi.utils.text import plus_minus

Tested = dict[str, list[Outcomes]]  # of each algorithm its runs


def robustness_block(panels: Sequence[Panel]) -> Block:
    """Tables and curves of the conditions that all tested runs of a task share."""
    rows, charts = [], []
    for panel in panels:
        runs = _tested(panel)
        if runs:
            rows += [[Cell(panel.task), *cells] for cells in _rows(runs)]
            charts += _charts(panel, runs)
    head = [
        *("task", "algorithm", "block", "worst condition", "runs", "conditions"),
        *("mean", "drop %", "worst condition's mean", "worst tenth of episodes"),
    ]
    note = (
        "± is the standard deviation over seeds; drop: against the clean score, where that is "
        "above 10. Conditions that not all tested runs of a task share are left out."
    )
    table = Table("robustness", "Robustness by block of conditions", head, rows, note, left=4)
    text = (
        "The policy evaluated where sensors, actuators or the simulator differ from training, by "
        "'offlinerlkit-romi evaluate RUN --suite robust-small-v1' (docs/robustness.md)."
    )
    return Block("robustness", "Robustness", text, [table], charts)


def _rows(runs: Tested) -> list[list[Cell]]:
    return [
        [
            *(Cell(x.label), Cell(x.block), Cell("-" if x.block == CLEAN else x.worst)),
            *(Cell(str(x.runs), x.runs), Cell(str(x.conditions), x.conditions)),
            Cell(plus_minus(x.mean, x.std), x.mean),
            *(cell(x.drop), cell(x.worst_mean), cell(x.tail)),
        ]
        for x in blocks_of(runs)
    ]


def _charts(panel: Panel, runs: Tested) -> list[Chart]:
    return [
        Chart(
            f"{kind} · {panel.task}",
            "scale",
            panel.scale,
            [line(label, label, curve) for label, curve in curves.items()],
            task=panel.task,
        )
        for kind, curves in panels_of(runs).items()
    ]


def _tested(panel: Panel) -> Tested:
    """Outcomes of episodes alike, under the conditions that all have; empty where none is clean."""
    told = {label: [_outcomes(x) for x in runs] for label, runs in panel.runs.items()}
    told = {label: found for label, runs in told.items() if (found := [x for x in runs if x])}
    kinds = {_played(x) for runs in told.values() for run in runs for x in run}
    best: Tested = {}
    for kind in sorted(kinds):
        alike = {
            label: [{x.condition: x for x in run if _played(x) == kind} for run in runs]
            for label, runs in told.items()
        }
        common = set.intersection(*(set(run) for runs in alike.values() for run in runs))
        if CLEAN in common and len(common) > _size(best):
            best = {
                label: [{name: x for name, x in run.items() if name in common} for run in runs]
                for label, runs in alike.items()
            }
    return best


def _size(runs: Tested) -> int:
    return len(next(iter(runs.values()))[0]) if runs else 0


def _played(outcome: Outcome) -> tuple[str, int, int]:
    return outcome.what, outcome.episodes, outcome.seed


def _outcomes(record: RunRecord) -> list[Outcome]:
    run = record.run
    if run is None or not record.finished:
        return []
    return [x for x in read_outcomes(run.path / ROBUSTNESS) if x.critic in ("", OWN)]
