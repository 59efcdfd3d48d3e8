"""What a report is made of, however it is shown: tables, charts, and blocks of both."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from offlinerlkit_romi.experiment.statistics import Estimate, mean_and_std
from offlinerlkit_romi.utils.plotter import Curve
from offlinerlkit_romi.utils.text import markdown, number, plus_minus

BEST, GREY = "best", "grey"
MOST_POINTS = 150  # of a curve on the page and in a figure
_LATEX = {**{x: f"\\{x}" for x in "&%$#_{}"}, "±": r"$\pm$", "~": r"\textasciitilde{}"}


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: As it is read.
        value: By which it is sorted; None sorts by the text.
        mark: "best", "grey", or a run's status.
    """

    text: str
    value: float | None = None
    mark: str = ""


def cell(value: float, form: str = ".1f", mark: str = "") -> Cell:
    """A number's."""
    return Cell(number(value, form), value, mark)


def spread(values: Sequence[float], mark: str = "", form: str = ".1f") -> Cell:
    """Mean ± sample standard deviation of what is known."""
    mean, std = mean_and_std([x for x in values if not math.isnan(x)])
    return Cell(plus_minus(mean, std, form), mean, mark)


def interval(estimate: Estimate, form: str = ".1f") -> Cell:
    """An estimate's."""
    return Cell(estimate.text(form), estimate.value)


def mean_known(values: Iterable[float]) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    return mean_and_std([x for x in values if not math.isnan(x)])[0]


@dataclass(frozen=True)
class Table:
    """A table for the page, for Markdown and for LaTeX.

    Attributes:
        name: Of its files.
        title: What it shows.
        head: Titles of the columns.
        rows: Cells; all rows are as wide as the head.
        note: What a reader must know.
        left: Columns that are text.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    left: int = 2

    def markdown(self) -> str:
        """With its title and note; the best is bold, what does not compare struck through."""
        around = {BEST: "**", GREY: "~~"}
        lines = [
            [f"{(m := around.get(x.mark, ''))}{x.text.replace('|', '/')}{m}" for x in row]
            for row in self.rows
        ]
        note = [f"\n{self.note}\n"] if self.note else []
        return "\n".join([f"## {self.title}\n", markdown([self.head, *lines], self.left), *note])

    def latex(self) -> str:
        """A table of booktabs; what does not compare is grey (packages booktabs, xcolor)."""
        around = {BEST: r"\textbf{%s}", GREY: r"\textcolor{gray}{%s}"}
        lines = [
            " & ".join(around.get(x.mark, "%s").replace("%s", _escaped(x.text)) for x in row)
            for row in self.rows
        ]
        columns = "l" * self.left + "r" * (len(self.head) - self.left)
        note = f". {self.note}" if self.note else ""
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(self.title + note)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(map(_escaped, self.head)) + r" \\",
                r"\midrule",
                *[f"{line} \\\\" for line in lines],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def _escaped(text: str) -> str:
    return re.sub(r"[&%$#_{}±~]", lambda found: _LATEX[found[0]], text.replace("\\", "/"))


@dataclass(frozen=True)
class Series:
    """A line with its band, or a point with its interval.

    Attributes:
        label: As it is read.
        algo: Whose colour it has, and with whom it is switched off.
        x: Places (n,); one for an interval.
        y: Values (n,).
        low: Lower edge of the band (n,), or nothing.
        high: Upper edge.
        dashed: For the second of two that belong together.
    """

    label: str
    algo: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


def line(label: str, algo: str, curve: Curve, *, dashed: bool = False) -> Series:
    """A curve with its mean ± std, thinned to what can be seen."""
    x, mean, std = (_thinned(values) for values in curve)
    low, high = (mean - std, mean + std) if std.any() else ((), ())
    return Series(label, algo, list(x), list(mean), list(low), list(high), dashed)


def _thinned(values: Any) -> Any:
    if len(values) <= MOST_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(int)]


@dataclass(frozen=True)
class Chart:
    """A picture of several series.

    Attributes:
        title: What it shows.
        x: Label of the axis.
        y: Label of the axis.
        series: What is drawn.
        kind: "lines"; "steps" for shares in bins; "intervals", a line each along the x axis.
        marks: Horizontal lines by name; of intervals vertical ones.
        log: Whether y is logarithmic.
        task: What it belongs to, of several.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    kind: str = "lines"
    marks: Mapping[str, float] = field(default_factory=dict)
    log: bool = False
    task: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values of five digits, None for what is not finite."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


@dataclass(frozen=True)
class Block:
    """One question and what answers it.

    Attributes:
        name: Of its figure's files, and its place on the page.
        title: Its heading.
        text: How it is to be read.
        tables: Shown before the charts.
        charts: Together one figure.
        open: Whether it is unfolded at first.
    """

    name: str
    title: str
    text: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    open: bool = True

    @property
    def empty(self) -> bool:
        """Nothing is known."""
        return not any(table.rows for table in self.tables) and not self.charts


@dataclass(frozen=True)
class Section:
    """Runs that may stand side by side: one source of data.

    Attributes:
        name: Of its files where there are several sections.
        title: The source.
        points: What it comes to, in sentences.
        blocks: The evidence.
    """

    name: str
    title: str
    points: Sequence[str]
    blocks: Sequence[Block]
