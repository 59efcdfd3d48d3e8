"""A comparison as it is written down: table, figure and what is needed to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from offlinerlkit_romi.envs.shifts import CLEAN
from offlinerlkit_romi.experiment.compare.records import RunRecord
from offlinerlkit_romi.experiment.compare.table import (
    Row,
    cells,
    make_notes,
    make_rows,
    steps_per_second,
)
from offlinerlkit_romi.experiment.robustness import (
    NOTES,
    Block,
    Outcomes,
    block_cells,
    blocks_of,
    draw,
)
from offlinerlkit_romi.experiment.statistics import mean_curve
from offlinerlkit_romi.experiment.summary import source_label
from offlinerlkit_romi.system.files import write_json, write_text
from offlinerlkit_romi.utils.plotter import AXES, plot_comparison
from offlinerlkit_romi.utils.text import aligned, csv_table, markdown

# of a run's manifest, without the folders of the machine it was made on
_PLACES = ("log_root", "resume", "dynamics_cache", "load_dynamics_path", "load_bc_path")
_DATA = ("source", "sha256", "transitions", "env_version", "episodes", "behaviour_return", "notes")


@dataclass(frozen=True)
class Report:
    """A comparison that may be shown (`refuse_mixtures` passed), and how it was asked for."""

    records: Sequence[RunRecord]
    command: str

    @cached_property
    def rows(self) -> list[Row]:
        """One per algorithm; their intervals take a while."""
        return make_rows(self.records)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the table must know."""
        return make_notes(self.rows, self.records)

    @cached_property
    def cells(self) -> list[list[str]]:
        """The table's lines."""
        return cells(self.rows, self._first.data_score)

    @property
    def task(self) -> str:
        """Its name."""
        return self._first.facts["task"]

    @property
    def title(self) -> str:
        """Task and data source, so that the table cannot be taken for another benchmark's."""
        source = self._first.facts["data source"]
        return f"{self.task}, {source_label(source, self.task)}"

    def text(self) -> str:
        """The table for a terminal."""
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([self.title, "", aligned(self.cells, left=2), "", *notes])

    def write(self, folder: Path) -> list[Path]:
        """Write table and figure as `compare_<task>.md`, `.csv`, `.json` and `.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"compare_{self.task}"
        paths = {kind: folder / f"{stem}.{kind}" for kind in ("md", "csv", "json", "png")}
        self._draw(paths["png"])
        write_text(paths["csv"], _csv(self.rows))
        write_json(paths["json"], self._content())
        write_text(paths["md"], self._markdown(stem))
        return list(paths.values())

    @property
    def _first(self) -> RunRecord:
        return next(record for record in self.records if record.run is not None)

    @property
    def _scale(self) -> str:
        """What all its scores are, see `RunRecord.scale`."""
        scales = [record.facts["scale"] for record in self.records if "scale" in record.facts]
        return scales[0] if scales else "score"

    def _draw(self, path: Path) -> None:
        runs: dict[str, list[RunRecord]] = {}
        for record in self.records:
            runs.setdefault(record.label, []).append(record)
        curves = {label: mean_curve([x.curve for x in group]) for label, group in runs.items()}
        shown = {label: curve for label, curve in curves.items() if len(curve[0])}
        most = max(map(len, runs.values()))
        plot_comparison(
            path,
            shown,
            title=f"{self.title}\nmean ± std over seeds (at most {most})",
            reference=self._first.data_score,
            reference_label=f"the data's own {self._scale}",
            y_label=AXES[self._scale],
        )

    def _markdown(self, stem: str) -> str:
        machines = sorted({_machine(record) for record in self.records if record.run})
        notes = [*self.notes, f"made on: {'; '.join(machines)}"]
        return "\n".join(
            [
                f"# {self.title}",
                "",
                markdown(self.cells, left=2, pad=False),
                "",
                *[f"- {note}" for note in notes],
                "",
                f"![learning curves]({stem}.png)",
                "",
                f"Every setting, version and run: [{stem}.json]({stem}.json). Made with",
                "```",
                self.command,
                "```",
                "",
            ]
        )

    def _content(self) -> dict[str, Any]:
        first = self._first
        return {
            "command": self.command,
            "task": self.task,
            "data": {name: first.manifest["data"].get(name) for name in _DATA},
            "scale": self._scale,
            "data_score": first.data_score,
            "environment": {
                name: first.facts[name] for name in ("environment", "gymnasium", "mujoco")
            },
            "rows": [row.as_dict() for row in self.rows],
            "notes": self.notes,
            "runs": [_run(record) for record in self.records],
        }


@dataclass(frozen=True)
class RobustReport:
    """A comparison under a suite of shifts.

    Attributes:
        title: Task and data source.
        suite: Its name.
        runs: Of each algorithm its runs' outcomes.
        command: How it was asked for.
    """

    title: str
    suite: str
    runs: Mapping[str, Sequence[Outcomes]]
    command: str

    @cached_property
    def blocks(self) -> list[Block]:
        """One per block of conditions and algorithm."""
        return blocks_of(self.runs)

    @property
    def _heading(self) -> str:
        first = next(iter(self.runs.values()))[0][CLEAN]
        return (
            f"{self.title}: {self.suite}, {first.episodes} episodes per condition (seed "
            f"{first.seed}), mujoco {first.mujoco}, gymnasium {first.gymnasium}"
        )

    def text(self) -> str:
        """The table for a terminal."""
        notes = [f"- {note}" for note in NOTES]
        return "\n".join([self._heading, "", aligned(block_cells(self.blocks), 2), "", *notes])

    def write(self, folder: Path, task: str) -> list[Path]:
        """Write tables and figure as `<suite>_<task>.md`, `.csv`, `.png`, and every run's rows."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{self.suite}_{task}"
        paths = {kind: folder / f"{stem}.{kind}" for kind in ("md", "csv", "png")}
        draw(paths["png"], self.runs, self._heading)
        write_text(paths["csv"], csv_table([block._asdict() for block in self.blocks]))
        table, notes = markdown(block_cells(self.blocks), 2, False), [f"- {x}" for x in NOTES]
        picture, made = (
            f"![score against scale]({stem}.png)",
            f"Made with\n```\n{self.command}\n```\n",
        )
        text = [f"# {self._heading}", "", table, "", *notes, "", picture, "", made]
        write_text(paths["md"], "\n".join(text))
        rows = folder / f"{stem}_conditions.csv"
        write_text(
            rows,
            csv_table(
                [
                    {"algorithm": label, "run": number, **asdict(outcome)}
                    for label, runs in self.runs.items()
                    for number, run in enumerate(runs)
                    for outcome in run.values()
                ]
            ),
        )
        return [*paths.values(), rows]


def _run(record: RunRecord) -> dict[str, Any]:
    """A run's numbers, settings and circumstances, without places."""
    told = {} if record.summary is None else record.summary.as_dict()
    fit = record.manifest.get("dynamics_fit") or {}
    return {
        "label": record.label,
        "seed": record.seed,
        "status": record.status,
        "why": record.why,
        "summary": {name: value for name, value in told.items() if name != "run_dir"},
        "steps_per_second": steps_per_second(record),
        "q_real": record.last("q/real"),
        "q_model": record.last("q/model"),
        "curve": {"steps": list(record.curve), "scores": list(record.curve.values())},
        "dynamics_fit": {name: value for name, value in fit.items() if name != "fitted_by"},
        "settings": {k: v for k, v in record.settings.items() if k not in _PLACES}
        | {"data": Path(str(record.settings.get("data"))).name},
        "versions": record.manifest.get("versions"),
        "machine": record.manifest.get("machine"),
    }


def _machine(record: RunRecord) -> str:
    machine = record.manifest["machine"]
    place = machine.get("device_name")
    return f"{place}, {machine.get('threads')} CPU thread(s) a run, {machine.get('device')}"


def _csv(rows: Sequence[Row]) -> str:
    lists = ("seeds", "others")
    table = [row.as_dict() for row in rows]
    return csv_table(
        [row | {name: "; ".join(map(str, row[name])) for name in lists} for row in table]
    )
