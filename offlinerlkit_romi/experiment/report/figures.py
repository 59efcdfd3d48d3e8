"""A block's charts as one figure, PNG and PDF, in the page's colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from offlinerlkit_romi.experiment.report.items import Chart, Series

COLUMNS = 3
# the page's colours on light ground
_STYLE = files("offlinerlkit_romi.experiment.report").joinpath("page.css").read_text("utf-8")
COLOURS = re.findall(r"--c\d+: light-dark\((#\w+),", _STYLE)


def draw(
    charts: Sequence[Chart],
    stem: Path,
    algorithms: Sequence[str],
    title: str,
    *,
    columns: int = COLUMNS,
    kinds: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Write `<stem>.png` and `<stem>.pdf`, with their source of data in the title."""
    # no pyplot: it would look for a display and keep the figure alive
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    with rc_context({"pdf.fonttype": 42, "font.size": 8}):  # letters stay letters
        figure = Figure(figsize=(3.6 * columns, 2.7 * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        all_axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes, chart in zip(all_axes, charts, strict=False):
            (_intervals if chart.kind == "intervals" else _lines)(axes, chart, algorithms)
        for axes in all_axes[len(charts) :]:
            axes.remove()
        _legend(figure, charts, algorithms)
        figure.suptitle(title)
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
        figure.draw_without_rendering()  # finds the layout, once for both
        figure.set_layout_engine("none")
        for path in paths:
            figure.savefig(path, dpi=150)
    return paths


def _style(series: Series, algorithms: Sequence[str]) -> dict[str, Any]:
    colour = COLOURS[list(algorithms).index(series.algo) % len(COLOURS)]
    return {"color": colour, "linestyle": "--" if series.dashed else "-"}


def _lines(axes: Any, chart: Chart, algorithms: Sequence[str]) -> None:
    drawstyle = "steps-mid" if chart.kind == "steps" else "default"
    for series in chart.series:
        style = _style(series, algorithms)
        marker = "o" if len(series.x) <= 12 and chart.kind == "lines" else ""
        axes.plot(series.x, series.y, drawstyle=drawstyle, marker=marker, markersize=3, **style)
        if len(series.low) and chart.kind == "lines":
            band = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
            axes.fill_between(series.x, series.low, series.high, **band)
    axes.locator_params(axis="x", nbins=5)
    if chart.log:
        below = any(y < 0 for series in chart.series for y in series.y)
        axes.set_yscale("symlog" if below else "log")
    low, high = axes.get_ylim()
    for name, value in chart.marks.items():
        if abs(value - (low + high) / 2) < 2 * (high - low):
            axes.axhline(value, color="0.4", linestyle=":", linewidth=1)
            axes.text(0.99, value, name, transform=axes.get_yaxis_transform(), ha="right")
        else:  # it would flatten the curves
            told = f"{name} {value:,.0f}"
            axes.text(0.99, 0.97, told, transform=axes.transAxes, ha="right", va="top")
    _label(axes, chart)


def _intervals(axes: Any, chart: Chart, algorithms: Sequence[str]) -> None:
    places = range(len(chart.series))
    for place, series in zip(places, chart.series, strict=True):
        colour = _style(series, algorithms)["color"]
        axes.plot(series.y, [place], "o", color=colour, markersize=5)
        if len(series.low):
            axes.plot([series.low[0], series.high[0]], [place] * 2, color=colour, linewidth=2)
    for value in chart.marks.values():
        axes.axvline(value, color="0.4", linestyle=":", linewidth=1)
    axes.set_yticks(list(places), [series.label for series in chart.series])
    axes.set_ylim(len(chart.series) - 0.5, -0.5)
    _label(axes, chart)


def _label(axes: Any, chart: Chart) -> None:
    axes.set_title(chart.title, fontsize=9)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, charts: Sequence[Chart], algorithms: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    series = [x for chart in charts if chart.kind != "intervals" for x in chart.series]
    shown = [label for label in algorithms if any(x.algo == label for x in series)]
    dashed = {name: all(x.dashed for x in series if x.algo == name) for name in shown}
    keys = [Series("", name, (), (), dashed=dashed[name]) for name in shown]
    lines = [Line2D([], [], **_style(key, algorithms)) for key in keys]
    if shown:
        widest = 0.065 * max(map(len, shown)) + 0.6  # inches, of letters and line
        columns = max(1, min(6, int(figure.get_figwidth() / widest)))
        figure.legend(lines, shown, loc="outside lower center", ncols=columns, frameon=False)
