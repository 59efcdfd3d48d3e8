"""Which runs there are, and which of them may stand side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.compare.plan import BEST_FIRST
from offlinerlkit_romi.experiment.compare.records import RunRecord, own_settings, read_record
from offlinerlkit_romi.experiment.folder import PROGRESS, find_runs
from offlinerlkit_romi.experiment.summary import source_label

SHOWN_SETTINGS = 2  # in a name; more are told in a note


@dataclass(frozen=True)
class Panel:
    """The runs on one data set of one task.

    Attributes:
        task: Its name, with what tells it from another data set of the same task.
        records: Its runs.
    """

    task: str
    records: Sequence[RunRecord]

    @cached_property
    def runs(self) -> dict[str, list[RunRecord]]:
        """By label."""
        found: dict[str, list[RunRecord]] = {}
        for record in self.records:
            found.setdefault(record.label, []).append(record)
        return found

    @property
    def first(self) -> RunRecord:
        """Any of its runs, for what they have in common."""
        return self.records[0]

    @property
    def scale(self) -> str:
        """What its scores are: "score" or "return"."""
        return next((x.scale for x in self.records if x.curve), "score")

    def columns(self) -> list[str]:
        """Of the curves of all its runs."""
        return list(dict.fromkeys(x for run in self.records for row in run.rows for x in row))

    def results(self, label: str, name: str = "last10_mean") -> list[float]:
        """Last, last10_mean or best of the finished runs, where known."""
        found = [
            record.summary.result(name)
            for record in self.runs.get(label, ())
            if record.summary is not None
        ]
        return [value for value in found if not math.isnan(value)]


@dataclass(frozen=True)
class Gathered:
    """All runs of a report.

    Attributes:
        sections: Panels by the source of their data.
        notes: What was left out or told apart.
    """

    sections: Mapping[str, Sequence[Panel]]
    notes: Sequence[str]

    @property
    def records(self) -> list[RunRecord]:
        """Every run."""
        panels = [panel for section in self.sections.values() for panel in section]
        return [record for panel in panels for record in panel.records]

    @property
    def labels(self) -> list[str]:
        """Every label, once."""
        return sorted({record.label for record in self.records})


def gather(places: Sequence[str]) -> Gathered:
    """Read the runs at or below some folders, each once, and sort them.

    Raises:
        UserError: There is none, or one is damaged.
    """
    records, notes = _without_twins([_sound(read_record(run)) for run in find_runs(places)])
    sections: dict[str, list[Panel]] = {}
    by_source = _grouped(records, _source)
    for source in sorted(by_source, key=lambda title: ("(not " in title, title)):
        for task, group in _grouped(by_source[source], lambda r: r.facts["task"]).items():
            sections.setdefault(source, []).extend(_panels(task, group, notes))
    return Gathered(sections, notes)


def _sound(record: RunRecord) -> RunRecord:
    """A finished run has a curve.

    Raises:
        UserError: It has lost it.
    """
    if record.finished and not (_folder(record) / PROGRESS).is_file():
        place = _folder(record)
        raise UserError(f"{place} lacks its {PROGRESS}: put it back, or move the folder away")
    return record


def _source(record: RunRecord) -> str:
    return source_label(record.facts["data source"], record.facts["task"])


def _grouped(
    records: Iterable[RunRecord], key: Callable[[RunRecord], Any]
) -> dict[Any, list[RunRecord]]:
    found: dict[Any, list[RunRecord]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found


def _without_twins(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """One run per configuration and seed: a finished one before all others, then the newest."""
    kept, notes = [], []
    for twins in _grouped(records, _identity).values():
        newest_first = sorted(twins, key=lambda r: str(_folder(r)), reverse=True)
        best = min(newest_first, key=lambda record: BEST_FIRST.index(record.status))
        kept.append(best)
        notes += [
            f"{twin.name} on {twin.facts['task']} is there twice: {_folder(best)} counts, "
            f"{_folder(twin)} ({twin.status}) does not"
            for twin in twins
            if twin is not best
        ]
    order = {id(record): place for place, record in enumerate(records)}
    return sorted(kept, key=lambda record: order[id(record)]), notes


def _folder(record: RunRecord) -> Path:
    assert record.run is not None
    return record.run.path


def _identity(record: RunRecord) -> str:
    return repr((record.label, record.seed, _world(record), own_settings(record)))


def _world(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """Its data set and simulator; an evaluation tells the scale, which says nothing of them."""
    return tuple(sorted((k, v) for k, v in record.facts.items() if k != "scale"))


def _panels(task: str, records: Sequence[RunRecord], notes: list[str]) -> list[Panel]:
    """A panel per data set and simulator; where there are several, they are told apart."""
    groups = _grouped(records, _world)
    differing = [
        name
        for name in dict(next(iter(groups)))
        if len({dict(facts)[name] for facts in groups}) > 1
    ]
    panels = []
    for facts, group in groups.items():
        suffix = ", ".join(f"{name} {dict(facts)[name][:12]}" for name in differing)
        title = f"{task} [{suffix}]" if suffix else task
        panels.append(Panel(title, _labelled(title, group, notes)))
    if differing:
        notes.append(f"{task}: runs that differ in {' and '.join(differing)} are kept apart")
    return panels


def _labelled(task: str, records: Sequence[RunRecord], notes: list[str]) -> list[RunRecord]:
    """Runs of one name and different settings get names of their own."""
    labelled: list[RunRecord] = []
    for label, group in sorted(_grouped(records, lambda r: r.label).items()):
        variants = _grouped(group, lambda record: repr(own_settings(record)))
        settings = [own_settings(variant[0]) for variant in variants.values()]
        known = dict.fromkeys(name for setting in settings for name in setting)
        names = [n for n in known if len({repr(setting.get(n)) for setting in settings}) > 1]
        for place, (variant, setting) in enumerate(zip(variants.values(), settings, strict=True)):
            told = ", ".join(f"{name.lstrip('-')} {setting.get(name)}" for name in names)
            own = f"{label} ({told})" if told else label
            if len(names) > SHOWN_SETTINGS:
                own = f"{label} #{place + 1}"
                notes.append(f"{own} on {task}: {told}")
            labelled += [replace(record, label=own) for record in variant]
    return labelled
