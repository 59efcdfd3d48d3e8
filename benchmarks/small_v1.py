"""Write the table and the picture of docs/small_v1.md from the package's bands.

python benchmarks/small_v1.py
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from offlinerlkit_romi.experiment.compare.bands import Band, read_bands
from offlinerlkit_romi.experiment.suites import BENCHMARKS
from offlinerlkit_romi.utils.text import markdown

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "small_v1.md", DOCS / "assets/small_v1.png"
START, END = "<!-- bands -->\n", "<!-- end bands -->"
SMALL = BENCHMARKS["small-v1"]
Bands = Mapping[tuple[str, str], Band]


def main() -> None:
    bands = read_bands(SMALL)
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(before + START + section(bands) + END + rest.partition(END)[2], "utf-8")
    draw(bands)


def mean(band: Band) -> float:
    return fmean(map(float, band.scores.split()))


def section(bands: Bands) -> str:
    """The table: a row per algorithm, best first on the first task."""
    return (
        "\n" + markdown([["algorithm", *SMALL.tasks], *map(list, rows(bands))], pad=False) + "\n\n"
    )


def rows(bands: Bands) -> list[tuple[str, ...]]:
    algos = sorted({algo for _, algo in bands}, key=lambda algo: -order(bands, algo))
    return [(algo, *(cell(bands.get((task, algo))) for task in SMALL.tasks)) for algo in algos]


def order(bands: Bands, algo: str) -> float:
    return sum(mean(bands[task, algo]) for task in SMALL.tasks if (task, algo) in bands)


def cell(band: Band | None) -> str:
    return "-" if band is None else f"**{mean(band):.1f}** ({band})"


def draw(bands: Bands) -> None:
    """A panel per task: each algorithm's band, its runs as points."""
    from matplotlib import pyplot

    algos = [algo for algo, *_ in reversed(rows(bands))]
    figure, panels = pyplot.subplots(1, len(SMALL.tasks), sharey=True, figsize=(11, 4.2))
    for axes, task in zip(panels, SMALL.tasks, strict=True):
        for place, algo in enumerate(algos):
            if band := bands.get((task, algo)):
                axes.barh(
                    place, band.high - band.low, left=band.low, height=0.6, color="C0", alpha=0.3
                )
                scores = [float(score) for score in band.scores.split()]
                axes.plot(scores, [place] * len(scores), "o", color="C0", markersize=4)
        axes.set_title(task, fontsize=9)
        axes.set_xlabel("score, mean of the last 5 evaluations", fontsize=8)
        axes.set_yticks(range(len(algos)), algos, fontsize=8)
        axes.axvline(0, color="0.6", linewidth=0.8)
    figure.savefig(PICTURE, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
