"""A run's curve in wandb, MLflow or Trackio, beside its folder."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.policy_trainer.callbacks import Callback, RunInfo, Status

PROJECT = "offlinerlkit-romi"
NONE = "none"
TAG = "offlinerlkit_romi_run"


def import_tracker(name: str) -> Any:
    """A tracker's package; None for none.

    Raises:
        UserError: It is not installed.
    """
    if name == NONE:
        return None
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"--tracker {name} cannot be imported ({error}): "
            f"pip install 'offlinerlkit-romi[{name}]', or leave --tracker out"
        ) from error


class Tracker(Callback):
    """Tells a tracker of the settings, every row of the curve and the end.

    A tracker that fails, for want of a network for one, is told once and harms no run.

    Args:
        name: "wandb", "mlflow" or "trackio".
    """

    def __init__(self, name: str) -> None:
        self.name = f"tracker {name}"
        self._package, self._make = import_tracker(name), WAYS[name]
        self._id, self._failed = uuid.uuid4().hex[:16], False
        self._way: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Begin, or go on with the tracker's run that the state tells of."""
        self._tell, self._steps = run.tell, int(run.settings["step_per_epoch"])
        self._try(self._begin, run)

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], policy: Any) -> None:
        """Hand on what is finite."""
        row = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._try(lambda: self._way.log(row, epoch * self._steps))

    def on_end(self, status: Status, summary: Any) -> None:
        """Say how it ended."""
        self._try(lambda: self._way.end(status in ("finished", "stopped")))

    def state_dict(self) -> dict[str, Any]:
        """Which of the tracker's runs it is."""
        return {"id": self._id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._id = str(state["id"])

    def _begin(self, run: RunInfo) -> None:
        self._way = self._make(self._package, run, self._id)

    def _try(self, act: Callable[..., object], *told: Any) -> None:
        if self._failed:
            return
        try:
            act(*told)
        except Exception as error:  # the package is another's: anything can happen in it
            self._failed = True
            self._tell(f"{self.name} fails ({reason_of(error)}): training goes on without it")


class _Wandb:
    """wandb, and Trackio, which has its functions."""

    def __init__(self, package: Any, run: RunInfo, id: str) -> None:
        own: dict[str, Any] = {"name": f"{title(run)} {id}"}
        if package.__name__ == "wandb":  # several runs may be threads of one process
            own = {"name": title(run), "id": id, "dir": str(run.run_dir)}
            own["reinit"] = "create_new"
        project = os.environ.get(f"{package.__name__.upper()}_PROJECT", PROJECT)
        settings = dict(run.settings) | {"algo": run.algo}
        self._run = package.init(project=project, config=settings, resume="allow", **own)

    def log(self, row: Mapping[str, float], step: int) -> None:
        self._run.log(dict(row), step=step)

    def end(self, well: bool) -> None:
        self._run.finish()


class _MLflow:
    """MLflow by its client: the ways without one know a single run per process."""

    def __init__(self, package: Any, run: RunInfo, id: str) -> None:
        self._entities, self._client = package.entities, package.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if found is None else found.experiment_id
        earlier = self._client.search_runs([place], f"tags.{TAG} = '{id}'")
        if earlier:
            self._id = earlier[0].info.run_id
            return
        made = self._client.create_run(place, tags={TAG: id}, run_name=title(run))
        self._id = made.info.run_id
        settings = dict(run.settings) | {"algo": run.algo}
        params = [self._entities.Param(key, str(value)) for key, value in settings.items()]
        self._client.log_batch(self._id, params=params)

    def log(self, row: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(key, value, now, step) for key, value in row.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self, well: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if well else "KILLED")


WAYS: dict[str, Callable[[Any, RunInfo, str], Any]] = {
    "wandb": _Wandb,
    "mlflow": _MLflow,
    "trackio": _Wandb,
}


def title(run: RunInfo) -> str:
    """How a tracker shows a run."""
    return f"{run.algo} {run.task} seed {run.seed}"
