"""A data set and settings small enough for a whole run in a second."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields

import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.data import DataInfo, Dataset
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

TASK = "halfcheetah-random-v2"
TINY = {
    "task": TASK,
    "epoch": 2,
    "step_per_epoch": 4,
    "batch_size": 8,
    "hidden_dims": (8,),
    "dynamics_hidden_dims": (8,),
    "dynamics_weight_decay": (0.0, 0.0),
    "n_ensemble": 3,
    "n_elites": 2,
    "dynamics_max_epochs": 1,
    "dynamics_batch_size": 64,
    "rollout_freq": 2,
    "rollout_batch_size": 16,
    "rollout_length": 2,
    "device": "cpu",
    "engine": "eager",  # a recording takes as long as a few dozen of such small steps
    "matmul_precision": "highest",
    "eval_episodes": 0,
}
TINY_ADVERSARIAL = TINY | {"dynamics_update_freq": 4, "adv_train_steps": 3, "adv_batch_size": 8}
TINY_ROMI = TINY_ADVERSARIAL | {"weight_hidden_dims": (8,), "num_perturbations": 2}
TINY_ROMBRL = TINY | {
    **{"dynamics_update_freq": 4, "trajectories": 8, "trajectory_length": 3, "model_horizon": 3},
    **{"leader_epochs": 2, "leader_batch": 4, "follower_epochs": 2, "follower_batch": 8},
    **{"curvature_trajectories": 3, "curvature_rows": 6, "kl_rows": 16},
}
_SPECIAL = {"rombrl": TINY_ROMBRL, "rambo": TINY_ADVERSARIAL | {"bc_epoch": 1}, "romi": TINY_ROMI}
# Count-MORL's coder sits on the second hidden layer
_WIDER = {"dynamics_hidden_dims": (8, 8), "dynamics_weight_decay": (0.0, 0.0, 0.0)}


def _tiny(algo, kind):
    known = {field.name for field in fields(kind)}
    settings = _SPECIAL.get(algo, TINY | (_WIDER if algo == "count_morl" else {}))
    return {name: value for name, value in settings.items() if name in known}


TINY_SETTINGS = {algo: _tiny(algo, kind) for algo, kind in ALGORITHMS.items()}


def make_dataset(rows=400, source="generated", model_rows=None):
    """One long episode: each next observation is the next row's observation."""
    rng = np.random.default_rng(0)
    states = rng.normal(1.0, 2.0, (rows + 1, 17)).astype(np.float32)
    info = DataInfo(
        task=TASK,
        source=source,
        path="somewhere.hdf5",
        sha256="0" * 64,
        env_version="HalfCheetah-v4",
        episodes=2,
        behaviour_return=-280.178953,  # scores 0
        notes=("collected by nobody",),
    )
    return Dataset(
        observations=states[:-1],
        actions=rng.uniform(-1, 1, (rows, 6)).astype(np.float32),
        next_observations=states[1:],
        rewards=rng.normal(size=(rows, 1)).astype(np.float32),
        terminals=np.zeros((rows, 1), bool),
        info=info,
        model_rows=model_rows,
    )


class Calls(list):
    """What a loader was asked for; it gives a small data set, or the one it is told to."""

    dataset = None

    def load(self, task, source="auto", **options):
        self.append({"task": task, "source": source, **options})
        return make_dataset() if self.dataset is None else self.dataset


@pytest.fixture
def small_model(monkeypatch):
    """What estimates fit for algorithms without a model: of three epochs."""
    small = ModelBasedConfig(
        dynamics_hidden_dims=(8,), dynamics_weight_decay=(0.0, 0.0), dynamics_max_epochs=3
    )
    monkeypatch.setattr("offlinerlkit_romi.experiment.estimates.OWN_MODEL", small)


@pytest.fixture
def tiny_data(monkeypatch):
    """Put the small data set, or `.dataset`, in the loader's place; returns the loader's calls."""
    calls = Calls()
    monkeypatch.setattr("offlinerlkit_romi.experiment.lifecycle.load", calls.load)
    return calls


class Made(list):
    """Commands that were run: in this process, for speed; children are started elsewhere."""

    def run(self, todo, *rest, **how):
        """What carries them out; a test may put its own in the place."""
        return self.run_here(todo, *rest, **how)

    def run_here(self, todo, *rest, meanwhile=lambda: None, **how):
        codes = []
        for command in todo:
            self.append(command.name)
            meanwhile()
            command.log.parent.mkdir(parents=True, exist_ok=True)
            with command.log.open("w") as log, redirect_stdout(log), redirect_stderr(log):
                codes.append(cli.main(command.argv[3:]))
        return codes


@pytest.fixture
def made(monkeypatch, tiny_data):
    """The commands of `compare` and `sweep`."""
    made = Made()
    for verb in ("compare", "sweep"):
        place = f"offlinerlkit_romi.experiment.{verb}.perform.run_commands"
        monkeypatch.setattr(place, lambda *rest, **how: made.run(*rest, **how))
    return made
