"""A run's folder: which files lie in it, and how they are written and read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine.device import machine
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS, GONE
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.resolve import Resolved, settle
from offlinerlkit_romi.experiment.summary import PROGRESS as PROGRESS
from offlinerlkit_romi.experiment.summary import Summary, read_rows
from offlinerlkit_romi.experiment.user_data import record_of, recorded_task
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.system.locks import locked
from offlinerlkit_romi.system.machine import versions
from offlinerlkit_romi.utils.logger import DIAGNOSIS_FILE, MODEL_ROWS, POLICY_ROWS, WEIGHTS_FILE

MANIFEST = "record/manifest.json"
CONFIG = "record/config.json"
SUMMARY = "result/summary.json"
ROBUSTNESS = "result/robustness.csv"
ROBUSTNESS_FIGURE = "result/robustness.png"
DIAGNOSIS = f"result/{DIAGNOSIS_FILE}"
CURVE_FIGURE = "result/learning_curve.png"
SELECTION = "result/selection_{by}.json"
SCALER = "model/policy_scaler"
MODEL = "model/dynamics.pth"
# what a logger writes below `record`: file name to kind
OUTPUTS = {
    "consoleout_backup": "stdout",
    POLICY_ROWS: "csv",
    MODEL_ROWS: "csv",  # of runs with a model alone
    "tb": "tensorboard",
}
ESTIMATE = "estimate/"  # such columns of the progress are estimates
Status = Literal["finished", "diverged", "running", "unfinished"]


class RunFolder:
    """What a run wrote of itself; read when asked for, once.

    Args:
        path: log/<task>/<algo>.../seed_...
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What a run is: code, machine, data, settings.

        Raises:
            UserError: There is nothing, or it is damaged.
        """
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(
                f"{self.path} is not a run's folder: no {MANIFEST} there; "
                "give log/<task>/<algo>.../seed_..."
            ) from error
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        if not isinstance(manifest, dict):
            raise UserError(f"{path} is damaged: it is no JSON object")
        for name in ("data", "machine", "versions", "config"):
            if not isinstance(manifest.get(name), dict):
                raise UserError(f"{path} is damaged: {name} is no JSON object")
        return manifest

    @cached_property
    def resolved(self) -> Resolved:
        """Its configuration, each value with the source it had.

        Raises:
            UserError: See `manifest`.
        """
        try:
            gone = GONE.get(self.manifest["algo"], set())
            entries = {n: x for n, x in self.manifest["config"].items() if n not in gone}
            values = {name: entry["value"] for name, entry in entries.items()}
            resolved = settle(self._find_algorithm(), values)
            sources = {name: str(entry["source"]) for name, entry in entries.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path / MANIFEST} is damaged: it lacks the configuration"
            ) from error
        return Resolved(resolved.algo, resolved.config, resolved.sources | sources)

    def _find_algorithm(self) -> str:
        """The algorithm's name; one of the user's own is imported where it is not known."""
        algo, told = str(self.manifest["algo"]), str(self.manifest.get("algorithm", ""))
        if algo in ALGORITHMS:
            return algo
        if "=" not in told:
            raise UserError(
                f"{self.path} is a run of {algo!r}, which nobody has registered here: import the "
                "module that does first"
            )
        return ALGORITHMS.take(told)

    @property
    def task(self) -> Task | str:
        """What it was trained on; a benchmark's task by its name."""
        return recorded_task(self.manifest)

    @property
    def status(self) -> Status:
        """How it ended, or that it has not."""
        if self.finished:
            return "finished"
        if self.diverged:
            return "diverged"
        return "running" if self.held else "unfinished"

    @property
    def finished(self) -> bool:
        """Whether it went to its end."""
        return (self.path / SUMMARY).is_file()

    @property
    def diverged(self) -> bool:
        """Whether the sentinel stopped it."""
        try:
            told = json.loads((self.path / DIAGNOSIS).read_text("utf-8"))
            return bool(told.get("stopped"))
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def held(self) -> bool:
        """Whether a process trains in it now."""
        try:
            with self.lock():
                return False
        except UserError:
            return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in it.

        Raises:
            UserError: One does.
        """

        def refuse() -> None:
            raise UserError(f"another process is training in {self.path}: wait for it")

        with locked(self.path / ".lock", on_wait=refuse):
            yield

    @property
    def has_state(self) -> bool:
        """Whether there is a state to go on from."""
        return any((self.path / "checkpoint").glob("state-*.pt"))

    @property
    def weights(self) -> Path:
        """The final weights, or those of the last finished epoch of a run that did not end.

        Raises:
            UserError: There are none yet.
        """
        for place in ("model", "checkpoint"):
            path = self.path / place / WEIGHTS_FILE
            if path.is_file():
                return path
        raise UserError(f"{self.path} holds no policy yet: its first epoch has not finished")

    def kept(self) -> dict[int, Path]:
        """Weights of its policy by policy steps, oldest first: kept ones, and the final ones."""
        paths = sorted((self.path / "checkpoint").glob("policy-*.pth"))
        found = {int(path.stem.partition("-")[2]): path for path in paths}
        if self.finished:
            found.setdefault(self.summary.steps, self.weights)
        return found

    def rows(self) -> list[dict[str, float]]:
        """The progress, a row per epoch; cells without a number are left out.

        Raises:
            UserError: It is damaged.
        """
        return read_rows(self.path)

    def estimates(self) -> list[tuple[int, dict[str, float]]]:
        """(policy steps, estimates by name) of the epochs that have some, oldest first."""
        found = [(int(row["timestep"]), estimates_of(row)) for row in self.rows()]
        return [(step, values) for step, values in found if values]

    @cached_property
    def summary(self) -> Summary:
        """What came out of it.

        Raises:
            UserError: It is missing or damaged.
        """
        path = self.path / SUMMARY
        try:
            return Summary.of(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def begin(
        self, resolved: Resolved, dataset: Dataset, device: torch.device, argv: Sequence[str]
    ) -> None:
        """Write manifest and configuration of a new run."""
        self._write_manifest(make_manifest(resolved, dataset, device, argv))

    def note(self, **facts: Any) -> None:
        """Add to the manifest."""
        self._write_manifest({**self.manifest, **facts})

    def note_resumption(
        self, resolved: Resolved, step: int, device: torch.device, argv: Sequence[str]
    ) -> None:
        """Note that the run goes on, where, and under what; it is finished no more."""
        (self.path / SUMMARY).unlink(missing_ok=True)
        entry = {
            "step": step,
            "argv": list(argv),
            "versions": versions(),
            "machine": machine(device),
        }
        told = self.manifest.get("resumed", [])
        parts = [*(told if isinstance(told, list) else []), entry]
        self.note(config=describe_config(resolved), resumed=parts)

    def finish(self, summary: Summary) -> None:
        """Write what came out, NaN as null."""
        write_json(self.path / SUMMARY, summary.as_dict())

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        write_json(self.path / MANIFEST, manifest)
        write_json(self.path / CONFIG, manifest["config"])


def find_runs(places: Iterable[str | Path]) -> list[RunFolder]:
    """The runs at or below some folders, in the order of their names.

    Args:
        places: Folders, or patterns of them: `log/**`, `log/hopper-*/romi*`.

    Raises:
        UserError: There is none in one of them, or a part of one.
    """
    folders: dict[Path, None] = {}
    for place in map(str, places):
        starts = [place] if Path(place).exists() else glob(place, recursive=True)
        found, *parts = (
            {path.parents[1] for start in starts for path in Path(start).rglob(name)}
            for name in (MANIFEST, CONFIG, SUMMARY)
        )
        for half in sorted(set.union(*parts) - found):
            raise UserError(f"{half} lacks its {MANIFEST}: put it back, or move the folder away")
        if not found:
            raise UserError(f"no run in {place}: give run folders, or a folder of them")
        folders |= dict.fromkeys(sorted(found))
    return [RunFolder(folder) for folder in folders]


def estimates_of(row: Mapping[str, float]) -> dict[str, float]:
    """The estimates in a row of the progress, by name."""
    return {k.removeprefix(ESTIMATE): v for k, v in row.items() if k.startswith(ESTIMATE)}


def obs_std(dataset: Dataset) -> NDArray[np.float64]:
    """Standard deviations of the raw observations (S,), which shifts of evaluations count."""
    return dataset.observations.std(0, dtype=np.float64)


def make_manifest(
    resolved: Resolved, dataset: Dataset, device: torch.device, argv: Sequence[str]
) -> dict[str, Any]:
    """Collect what is needed to say whether two runs may be compared, and to repeat one."""
    info, spelled = dataset.info, ALGORITHMS.spelled(resolved.algo)
    return {
        "algo": resolved.algo,
        **({} if spelled == resolved.algo else {"algorithm": spelled}),
        "task": resolved.config.task,
        "seed": resolved.config.seed,
        "data": {
            "source": info.source,
            "path": info.path,
            "sha256": info.sha256,
            "transitions": len(dataset),
            "obs_dim": dataset.observations.shape[1],
            "action_dim": dataset.actions.shape[1],
            "env_version": info.env_version,
            "episodes": info.episodes,
            "behaviour_return": info.behaviour_return,
            "obs_std": obs_std(dataset).tolist(),
            "notes": list(info.notes),
            **record_of(dataset),
            "goal": info.goal,
        },
        "versions": versions(),
        "machine": machine(device),
        "argv": list(argv),
        "config": describe_config(resolved),
    }


def describe_config(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Each setting's value beside its source."""
    return {
        name: {"value": value, "source": resolved.sources[name]}
        for name, value in as_dict(resolved.config).items()
    }
