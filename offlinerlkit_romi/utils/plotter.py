"""Learning curves: one run's, and the kit's mean over runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

COLORS = ("#318DE9", "#FF7D00", "#E52B50", "#7B68EE", "#00CD66", "#FFD700")
SCORE_LABEL = "normalised score (0 random, 100 expert)"
AXES = {"score": SCORE_LABEL, "return": "return (undiscounted)"}
Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Panel = dict[str, Curve]


def plot_learning_curve(
    path: str | Path,
    steps: Sequence[int],
    scores: Sequence[float],
    stds: Sequence[float],
    *,
    title: str,
    reference: float | None = None,
    reference_label: str = "",
    y_label: str = SCORE_LABEL,
) -> None:
    """Draw one run's scores over policy steps as a PNG.

    Args:
        path: The file to write.
        steps: Policy steps of the evaluations (n,).
        scores: Their mean scores (n,).
        stds: Their spread over episodes (n,), shown as a band.
        title: Names the data source, so that the picture cannot be taken for another benchmark's.
        reference: A score drawn as a dashed line, such as the data's own.
        reference_label: What that line is.
        y_label: What is drawn, where it is no score.
    """
    figure, axes = _figure((7.0, 4.2))
    x, y, band = (np.asarray(values, np.float64) for values in (steps, scores, stds))
    axes.fill_between(x, y - band, y + band, color=COLORS[0], alpha=0.2, linewidth=0)
    marker = "o" if len(x) <= 50 else ""
    axes.plot(x, y, color=COLORS[0], marker=marker, markersize=3, label="policy, mean ± std")
    if reference is not None and np.isfinite(reference):
        axes.axhline(reference, color="0.35", linestyle="--", label=reference_label)
    _label(axes, "policy steps", y_label, title)
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def plot_comparison(
    path: str | Path,
    curves: Mapping[str, Curve],
    *,
    title: str,
    reference: float | None = None,
    reference_label: str = "",
    y_label: str = SCORE_LABEL,
) -> Any:
    """Draw several algorithms' scores over policy steps as a PNG.

    Args:
        path: The file to write.
        curves: Algorithm to steps, mean and spread over seeds, each (n,).
        title: Names the data source.
        reference: A score drawn as a dashed line, such as the data's own.
        reference_label: What that line is.
        y_label: What the scores are.

    Returns:
        The matplotlib figure.
    """
    figure, axes = _figure((7.5, 4.8))
    for place, (name, (x, mean, std)) in enumerate(curves.items()):
        color, style = f"C{place % 10}", "-" if place < 10 else "-."  # matplotlib's own ten
        axes.plot(x, mean, color=color, linestyle=style, label=name)
        axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
    if reference is not None and np.isfinite(reference):
        axes.axhline(reference, color="0.35", linestyle="--", label=reference_label)
    _label(axes, "policy steps", y_label, title)
    if axes.lines:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return figure


def plot_panels(
    path: str | Path, panels: Mapping[str, Panel], *, title: str, y_label: str, columns: int = 5
) -> None:
    """Draw small pictures side by side on one scale, as a PNG.

    Args:
        path: The file to write.
        panels: Title to the curves of that picture by name; a name has one colour in all.
        title: Of the whole.
        y_label: What is drawn.
        columns: Pictures in a row.
    """
    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns) or 1
    figure, first = _figure((2.4 * columns + 1.0, 2.0 * rows + 1.0))
    first.remove()
    shared = None
    names: dict[str, Any] = {}
    for place, (panel_title, curves) in enumerate(panels.items()):
        axes = shared = figure.add_subplot(rows, columns, place + 1, sharey=shared)
        for name, (x, mean, spread) in curves.items():
            color = f"C{list(curves).index(name) % 10}"
            (names[name],) = axes.plot(x, mean, color=color, marker="o", markersize=3)
            axes.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
        _label(axes, "", "", panel_title)
    if len(names) > 1:
        figure.legend(list(names.values()), list(names), loc="outside lower center", ncols=6)
    figure.suptitle(title, fontsize=10)
    figure.supylabel(y_label, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def merge_csv(root_dir: str, query_file: str, query_x: str, query_y: str) -> str:
    """Average one column over all runs below a folder, as the kit's function of this name.

    Runs of different lengths are averaged up to the end of the shortest; rows without a value
    (epochs without evaluation) are left out.

    Returns:
        The path of the CSV file written to `root_dir`: x, mean, std.

    Raises:
        UserError: No such file below the folder, or runs that logged at different x.
    """
    curves = [
        _read_columns(file, query_x, query_y) for file in sorted(Path(root_dir).rglob(query_file))
    ]
    if not curves:
        raise UserError(
            f"no {query_file} below {root_dir}: give the folder of one algorithm's runs"
        )
    length = min(len(curve) for curve in curves)
    stacked = np.stack([curve[:length] for curve in curves])  # (R, n, 2)
    if (stacked[:, :, 0] != stacked[:1, :, 0]).any():
        raise UserError(
            f"the runs below {root_dir} logged at different {query_x}: average like runs"
        )
    output = Path(root_dir) / f"{query_y.replace('/', '_')}.csv"
    mean, std = stacked[:, :, 1].mean(0), stacked[:, :, 1].std(0)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([query_x, f"{query_y}_mean", f"{query_y}_std"])
        writer.writerows(zip(stacked[0, :, 0], mean.round(4), std.round(4), strict=True))
    return str(output)


def csv2numpy(file_path: str) -> Curve:
    """The three columns of a file written by `merge_csv`: x, mean, std, each (n,)."""
    table = np.loadtxt(file_path, delimiter=",", skiprows=1, ndmin=2)
    return table[:, 0], table[:, 1], table[:, 2]


def smooth(y: NDArray[np.float64], radius: int = 0) -> NDArray[np.float64]:
    """Moving average over 2 radius + 1 values, over fewer at the ends."""
    kernel = np.ones(2 * radius + 1)
    counts = np.convolve(np.ones_like(y), kernel, mode="same")
    return np.convolve(y, kernel, mode="same") / counts


def plot_figure(
    results: Mapping[str, str],
    x_label: str,
    y_label: str,
    title: str | None = None,
    smooth_radius: int = 10,
    figsize: tuple[float, float] | None = None,
    dpi: int | None = None,
    color_list: Sequence[str] | None = None,
) -> Any:
    """Draw one smoothed mean and band per algorithm; the kit's arguments.

    Args:
        results: Algorithm to a file written by `merge_csv`.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        title: Title.
        smooth_radius: Radius of the moving average.
        figsize: Inches.
        dpi: Dots per inch.
        color_list: One colour per algorithm.

    Returns:
        The matplotlib figure, on which `savefig` can be called.
    """
    figure, axes = _figure(figsize or (5.0, 5.0), dpi)
    colors = color_list or [COLORS[i % len(COLORS)] for i in range(len(results))]
    for color, (name, file) in zip(colors, results.items(), strict=True):
        x, mean, std = csv2numpy(file)
        mean, std = smooth(mean, smooth_radius), smooth(std, smooth_radius)
        axes.plot(x, mean, color=color, label=name)
        axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
    _label(axes, x_label, y_label, title or "")
    axes.legend(frameon=False)
    return figure


def _figure(figsize: tuple[float, float], dpi: int | None = None) -> tuple[Any, Any]:
    # no pyplot: it would look for a display and keep the figure alive
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, dpi=dpi)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _label(axes: Any, x_label: str, y_label: str, title: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _read_columns(path: Path, query_x: str, query_y: str) -> NDArray[np.float64]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            (float(row[query_x]), float(row[query_y]))
            for row in csv.DictReader(file)
            if row.get(query_y)
        ]
    return np.array(rows, np.float64).reshape(-1, 2)
