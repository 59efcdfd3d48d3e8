"""The episodes of a data file as a picture and in words."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.data.hdf5 import Episodes
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import written_whole

BINS = 40
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def describe_episodes(episodes: Episodes) -> list[str]:
    """Minimum, quartiles and maximum of the returns and the lengths of the complete episodes."""
    if not len(episodes.returns):
        return ["  no complete episode: no returns"]
    return [
        f"  {name:10} min {low:.1f}, quartiles {q1:.1f} {median:.1f} {q3:.1f}, max {high:.1f}"
        for name, values in (("returns", episodes.returns), ("lengths", episodes.lengths))
        for low, q1, median, q3, high in [np.quantile(values, QUANTILES).tolist()]
    ]


def draw_histogram(path: Path, episodes: Episodes, title: str) -> None:
    """Write a PNG with the distribution of returns and of lengths of the complete episodes.

    Raises:
        UserError: There is no complete episode, or the file cannot be written.
    """
    if not len(episodes.returns):
        raise UserError(f"{title}: no complete episode, so there is no histogram of returns")
    if path.suffix != ".png" or not path.parent.is_dir():
        raise UserError(f"--histogram {path}: give a .png file in a folder that exists")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    sides: tuple[tuple[str, NDArray[np.generic]], ...] = (
        ("undiscounted return", episodes.returns),
        ("steps", episodes.lengths),
    )
    for axes, (label, values) in zip(figure.subplots(1, 2), sides, strict=True):
        axes.hist(np.asarray(values, dtype=np.float64), bins=BINS, color="#4c72b0")
        axes.set_xlabel(label)
        axes.set_ylabel("episodes")
    figure.suptitle(f"{title}: {len(episodes.returns)} complete episodes")
    with written_whole(path, "--histogram") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
