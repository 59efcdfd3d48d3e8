# ruff: noqa: T201
"""Bands of a benchmark: where the score of a run lies while its algorithm learns as it did."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, NoReturn

from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.experiment.compare.records import RunRecord, read_record
from offlinerlkit_romi.experiment.config import as_dict, flag
from offlinerlkit_romi.experiment.folder import find_runs
from offlinerlkit_romi.experiment.help_text import shown
from offlinerlkit_romi.experiment.resolve import resolve
from offlinerlkit_romi.experiment.resume import FREE
from offlinerlkit_romi.experiment.suites import BENCHMARKS, Benchmark
from offlinerlkit_romi.system.files import write_text
from offlinerlkit_romi.utils.text import aligned, csv_table, markdown

LAST = 5  # evaluations at a run's end, whose mean is what a band holds
FEWEST = 3  # runs that make a band
LEAST = 2.0  # of a normalised score: what a band allows beyond its runs at least
OUTSIDE = 1  # exit status of `check`
# settings of which a band knows nothing: whose run it is, and how it uses its machine
OPEN = FREE | {"seed", "device", "preset", "dynamics_threads", "matmul_precision"}


class Band(NamedTuple):
    """Where a run's score should lie.

    Attributes:
        task: Its task.
        algorithm: Its algorithm.
        low: Least score.
        high: Greatest score.
        seeds: Of the runs it was made from, by blanks.
        scores: Theirs, likewise.
        commit: Of the code they ran.
        hardware: They ran on.
    """

    task: str
    algorithm: str
    low: float
    high: float
    seeds: str
    scores: str
    commit: str
    hardware: str

    def __str__(self) -> str:
        return f"{self.low:.1f} to {self.high:.1f}"


Bands = dict[tuple[str, str], Band]  # by task and algorithm


def limits(scores: Sequence[float]) -> tuple[float, float]:
    """The band of some runs' scores: their range, widened on both sides by its own width.

    By `LEAST` at least. Of normal scores a further one is inside with a probability of 0.87 for
    three runs, 0.94 for four, 0.97 for five and 0.98 for six; a prediction interval of 0.95 from
    three is twice as wide, and would let pass what no longer learns.
    """
    low, high = min(scores), max(scores)
    beyond = max(LEAST, high - low)
    return low - beyond, high + beyond


def score_of(record: RunRecord) -> float:
    """The mean of a finished run's last five evaluations."""
    return fmean(list(record.curve.values())[-LAST:])


def read_bands(benchmark: Benchmark, path: str | Path | None = None) -> Bands:
    """The bands of a file, or those that come with the package, by task and algorithm.

    Raises:
        UserError: The file is damaged.
    """
    source = Path(path) if path else files(__package__).joinpath(f"{benchmark.name}.csv")
    try:
        rows = csv.DictReader(source.read_text("utf-8").splitlines())
        bands = [
            Band(low=float(row.pop("low")), high=float(row.pop("high")), **row) for row in rows
        ]
    except OSError as error:
        raise UserError(f"no bands in {source}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} is damaged: {reason_of(error)}") from error
    return {(band.task, band.algorithm): band for band in bands}


def write_bands(benchmark: Benchmark, records: Sequence[RunRecord], path: Path) -> Bands:
    """Write the bands that finished runs make; those of other tasks and algorithms stay.

    Returns:
        The whole file's.

    Raises:
        UserError: There are too few runs of one.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_key(record), []).append(record)
    for key, group in groups.items():
        if len(group) < FEWEST:
            told = f"{' '.join(key)}: a band needs {FEWEST} finished runs, here are {len(group)}"
            raise UserError(f"{told}: give more seeds")
    kept = read_bands(benchmark, path) if path.is_file() else {}
    bands = kept | {key: _band(key, group) for key, group in groups.items()}
    order = [key for task in benchmark.tasks for key in sorted(bands) if key[0] == task]
    write_text(path, csv_table([bands[key]._asdict() for key in order]))
    return {key: bands[key] for key in order}


def _band(key: tuple[str, str], records: Sequence[RunRecord]) -> Band:
    group = sorted(records, key=lambda record: record.seed)
    scores = [round(score_of(record), 2) for record in group]
    low, high = (round(limit, 2) for limit in limits(scores))
    told = (
        [record.seed for record in group],
        scores,
        {
            str(record.manifest["versions"].get("git_commit") or "uncommitted")[:12]
            for record in group
        },
        {record.manifest["machine"].get("device_name") for record in group},
    )
    return Band(*key, low, high, *(" ".join(map(str, values)) for values in told))


def _key(record: RunRecord) -> tuple[str, str]:
    return record.facts["task"], str(record.manifest["algo"])


def refuse_other_runs(benchmark: Benchmark, records: Iterable[RunRecord]) -> None:
    """Refuse runs of other settings than the benchmark's.

    Raises:
        UserError: One is.
    """
    for record in records:
        if why := difference(benchmark, *_key(record), record.settings):
            _refuse(benchmark, record, why)


def _refuse(benchmark: Benchmark, record: RunRecord, why: str) -> NoReturn:
    where = record.name if record.run is None else record.run.path
    raise UserError(f"{where} is no finished run of {benchmark.name}: {why}")


def difference(benchmark: Benchmark, task: str, algo: str, settings: Mapping[str, Any]) -> str:
    """The first setting that is not the benchmark's; empty where there is none."""
    if task not in benchmark.tasks:
        return f"--task is {task}, not one of {', '.join(benchmark.tasks)}"
    wanted = as_dict(resolve(algo, task, benchmark.name).config)
    for name, value in wanted.items():
        if name not in OPEN and settings[name] != value:
            had, has = (tuple(x) if isinstance(x, list) else x for x in (settings[name], value))
            return f"{flag(name)} is {shown(had)}, not {shown(has)}"
    return ""


class Verdict(NamedTuple):
    """A run beside its band, None where there is none."""

    record: RunRecord
    band: Band | None

    @property
    def word(self) -> str:
        """What to say of it."""
        if self.band is None:
            return "no band"
        inside = self.band.low <= score_of(self.record) <= self.band.high
        return "inside" if inside else "outside"

    def cells(self) -> list[str]:
        """A line of the table."""
        task, algo = _key(self.record)
        made = ("-", "-") if self.band is None else (str(self.band), self.band.seeds)
        score = f"{score_of(self.record):.1f}"
        return [task, algo, str(self.record.seed), score, self.word, *made]


HEAD = ["task", "algorithm", "seed", f"last {LAST}", "", "band", "made of seeds"]


def judged(records: Sequence[RunRecord], bands: Bands) -> list[Verdict]:
    """Finished runs beside their bands."""
    return [Verdict(record, bands.get(_key(record))) for record in records if record.finished]


def table(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Verdicts for people."""
    return [HEAD, *(verdict.cells() for verdict in verdicts)]


def write_table(benchmark: Benchmark, verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Write them as `<suite>.md` and `.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = table(verdicts)
    head = [title or "verdict" for title in HEAD]
    texts = {
        "md": f"# {benchmark.name}\n\n{markdown(lines, left=2, pad=False)}\n",
        "csv": csv_table([dict(zip(head, line, strict=True)) for line in lines[1:]]),
    }
    paths = {folder / f"{benchmark.name}.{kind}": text for kind, text in texts.items()}
    for path, text in paths.items():
        write_text(path, text)
    return list(paths)


def check(places: Sequence[str], path: str | None = None) -> int:
    """Tell of runs whether they are inside their bands; returns the exit status.

    Raises:
        UserError: One is no finished run of the benchmark, or has no band.
    """
    benchmark = BENCHMARKS["small-v1"]
    records = [read_record(run) for run in find_runs(places)]
    refuse_other_runs(benchmark, records)
    for record in records:
        if not record.finished:
            _refuse(benchmark, record, record.why)
    verdicts = judged(records, read_bands(benchmark, path))
    for verdict in verdicts:
        if verdict.band is None:
            told = " on ".join(reversed(_key(verdict.record)))
            raise UserError(f"there is no band of {told}: make one by compare --write-bands")
    print(aligned(table(verdicts), left=2))
    return OUTSIDE if any(verdict.word == "outside" for verdict in verdicts) else 0
