"""Runs as data: one read back whole, or the curves of many in one frame."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.folder import CURVE_FIGURE, RunFolder, Status, find_runs
from offlinerlkit_romi.experiment.lifecycle import obtain_data
from offlinerlkit_romi.experiment.reload import Evaluation, evaluate, load_policy
from offlinerlkit_romi.experiment.summary import Summary, read_curve, title_of
from offlinerlkit_romi.experiment.user_data import source_of
from offlinerlkit_romi.utils.text import html

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A run, read back from its folder; each part when it is asked for.

    Args:
        folder: Where it lies.

    Attributes:
        folder: Its files.
        algorithm: Such as "romi".
        label: What a table calls it: its `algo_name`, or the algorithm.
        task: Name of its task.
        seed: Its seed.
        source: Of its data: "generated", "file", "d4rl" ...
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        config = folder.resolved.config
        self.algorithm: str = folder.resolved.algo
        self.label: str = config.algo_name or self.algorithm
        self.task: str = config.task
        self.seed: int = config.seed
        self.source = str(folder.manifest["data"].get("source"))

    def __repr__(self) -> str:
        return f"<run of {self._title()}, {self.status}: {self.path}>"

    def _repr_html_(self) -> str:
        about = [("status", self.status, ""), ("folder", str(self.path), "")]
        rows = self.summary.rows() if self.folder.finished else []
        figure = self.path / CURVE_FIGURE
        picture = base64.b64encode(figure.read_bytes()).decode() if figure.is_file() else ""
        image = f'<img alt="learning curve" src="data:image/png;base64,{picture}">'
        return html(self._title(), [*about, *rows]) + (image if picture else "")

    def _title(self) -> str:
        return title_of(self.label, self.task, self.source, self.seed)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def status(self) -> Status:
        """finished, diverged, running or unfinished."""
        return self.folder.status

    @property
    def manifest(self) -> dict[str, Any]:
        """What it is: code, machine, versions, data, and each setting with its source."""
        return self.folder.manifest

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its settings."""
        return as_dict(self.folder.resolved.config)

    @cached_property
    def curve(self) -> pd.DataFrame:
        """A row per epoch; columns as in `policy_training_progress.csv`, `timestep` first.

        Raises:
            UserError: The file is damaged.
        """
        return read_curve(self.path)

    @property
    def summary(self) -> Summary:
        """What came out of it.

        Raises:
            UserError: It has not finished, or the file is damaged.
        """
        return self.folder.summary

    @cached_property
    def policy(self) -> Any:
        """The trained policy, see `load_policy`.

        Raises:
            UserError: There is none yet.
        """
        return load_policy(self.path)

    @cached_property
    def dataset(self) -> Dataset:
        """The transitions it learned from, loaded or generated again.

        Raises:
            UserError: They cannot be had, or are no longer the same.
        """
        config = self.folder.resolved.config
        return obtain_data(config, source_of(config), self.folder)

    def evaluate(self, episodes: int | None = None, seed: int = 0, **options: Any) -> Evaluation:
        """Evaluate the policy afresh; arguments and errors of `offlinerlkit_romi.evaluate`."""
        return evaluate(self.path, episodes, seed, **options)


def load_run(run_dir: str | Path) -> Run:
    """Read a run back.

    Args:
        run_dir: Its folder, log/<task>/<algo>.../seed_...; `Summary.run_dir` names it.

    Raises:
        UserError: It is no run's folder, or is damaged.
    """
    return Run(RunFolder(run_dir))


def load_runs(places: str | Path | Iterable[str | Path] = "log") -> pd.DataFrame:
    """The curves of many runs in one frame, a row per run and epoch.

    Args:
        places: Folders that hold runs, or patterns of them: "log", "log/hopper-*/romi*", "log/**".

    Returns:
        The columns of `Run.curve` after task, algorithm, label, seed, source, status and run_dir.
        `source` tells where the data came from: scores of different sources do not compare.

    Raises:
        UserError: There is no run, or one is damaged.
    """
    import pandas

    listed = [places] if isinstance(places, (str, Path)) else places
    frames = [_with_names(Run(folder)) for folder in find_runs(listed)]
    return pandas.concat(frames, ignore_index=True)


def _with_names(run: Run) -> pd.DataFrame:
    names: dict[str, Any] = {
        **{"task": run.task, "algorithm": run.algorithm, "label": run.label, "seed": run.seed},
        **{"source": run.source, "status": run.status, "run_dir": str(run.path)},
    }
    curve = run.curve.copy()  # in one piece: pandas warns of a frame grown column by column
    return curve.assign(**names)[[*names, *curve.columns]]
