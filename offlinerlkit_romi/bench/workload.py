"""What is timed, and by which engines: names, sizes, and data that cost what a task's data cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.data.dataset import DataInfo
from offlinerlkit_romi.engine import Engine, make_engine
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.resolve import settle

POLICY_STEP, MODEL_UPDATE, EPOCH = "policy step", "model update", "epoch"
FIT_STEP, ROLLOUT = "pre-training step", "rollout"
EVALUATION, LOADING = "evaluation", "loading"
PIECES = (POLICY_STEP, MODEL_UPDATE, FIT_STEP, ROLLOUT, EVALUATION, LOADING, EPOCH)
ADVERSARIAL = ("romi", "rambo")
FULL_PRECISION = "highest"  # torch's default, which no checkout changes

# columns of this package in the tables, by engine
NAME = "ours"
LABELS = {"eager": NAME, "graph": "captured", "compile": "compiled"}
# a delayed actor makes two kinds of update, each captured when it first comes
WARM_UPS = {"eager": 1, "graph": 2, "compile": 2}

# the paper's epoch
STEPS, ROLLOUTS, ROLLOUT_ROWS = 1000, 4, 50_000

# simulated states stay healthy: standing height of the hopper and the walker, and a small spread
HEIGHT, SPREAD = 1.25, 0.03
EPISODE = 1000
EVALUATION_TASK = "halfcheetah-medium-v2"  # its episodes never end early


@dataclass(frozen=True)
class Workload:
    """Sizes of everything.

    Attributes:
        task: D4RL name; gives S, A and the presets.
        device: Where updates run.
        precision: Of this package's float32 products.
        repeats: Samples per piece.
        steps: Updates per sample.
        rows: Transitions in the data set.
        rollout_rows: Start states of a rollout.
        rollout_length: Its steps, H.
        load_rows: Rows of the file that is loaded.
        episodes: Per evaluation.
        episode_steps: Of each.
        epoch_share: Share of an epoch that is run to time one.
        both_precisions: Time this package's pieces at full precision as well.
        overrides: Settings of every algorithm that has them, over its preset.
        engines: Timed in turn with eager steps.
        make_engine: Makes one from its name, the device, and who is told of it.
    """

    task: Task
    device: torch.device
    precision: str = "highest"
    repeats: int = 15
    steps: int = 10
    rows: int = 200_000
    rollout_rows: int = 10_000
    rollout_length: int = 5
    load_rows: int = 2_000_000
    episodes: int = 10
    episode_steps: int = EPISODE
    epoch_share: float = 0.02
    both_precisions: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    engines: Sequence[str] = ()
    make_engine: Callable[..., Engine] = make_engine

    def quick(self) -> Workload:
        """The same pieces, few and small: to see that they run."""
        return replace(
            self,
            repeats=3,
            steps=2,
            rows=2_000,
            rollout_rows=500,
            load_rows=20_000,
            episode_steps=20,
            epoch_share=0.004,
        )

    def config(self, algo: str) -> RunConfig:
        """The algorithm's preset for the task, with a model buffer of few rows."""
        values: dict[str, Any] = {"task": self.task.name}
        names = ALGORITHMS[algo].__dataclass_fields__
        if ALGORITHMS[algo]().model is not None:
            values |= {
                "rollout_batch_size": self.rollout_rows,
                "rollout_length": self.rollout_length,
                "model_retain_epochs": 1,
                "error_segments": 0,
            }
        if algo == "rambo":
            values["adv_weight"] = 3e-4  # some tasks' presets leave the adversary out
        if algo == "iql":
            values["reward"] = "raw"  # the scaling of rewards is no part of a step
        values |= {name: value for name, value in self.overrides.items() if name in names}
        return settle(algo, values).config

    @cached_property
    def dataset(self) -> Dataset:
        """Random transitions whose states stay far from every termination rule."""
        arrays = random_rows(self.task, self.rows)
        obs, action, next_obs = (
            arrays[n] for n in ("observations", "actions", "next_observations")
        )
        reward, terminal = (arrays[name][:, None] for name in ("rewards", "terminals"))
        info = DataInfo(self.task.name, "file", "", "", "none: random numbers", 0, 0.0)
        return Dataset(obs, action, next_obs, reward, terminal, info)

    def evaluation_task(self) -> Task:
        """HalfCheetah with the episodes' length."""
        return replace(get_task(EVALUATION_TASK), max_episode_steps=self.episode_steps)


def engines_beside_eager(asked: str, device: torch.device) -> tuple[str, ...]:
    """Engines to time in turn with eager steps, by `--engine`; a CPU's tapes where asked for."""
    if asked == "compile":
        return ("compile",)
    return ("graph",) if asked == "graph" or (asked, device.type) == ("auto", "cuda") else ()


def steps_of(share: float) -> int:
    """Policy steps of a shortened epoch: as many between two rollouts, each time."""
    return ROLLOUTS * max(1, round(share * STEPS / ROLLOUTS))


def random_rows(task: Task, n: int) -> dict[str, np.ndarray]:
    """Arrays in D4RL's keys, rewards and flags (n,)."""
    rng = np.random.default_rng(0)
    mean = np.zeros(task.obs_dim, np.float32)
    mean[0] = HEIGHT
    obs = mean + SPREAD * rng.standard_normal((n, task.obs_dim), np.float32)
    step = 0.1 * SPREAD * rng.standard_normal((n, task.obs_dim), np.float32)
    timeouts = np.zeros(n, bool)
    timeouts[EPISODE - 1 :: EPISODE] = True
    return {
        "observations": obs,
        "actions": rng.uniform(-1, 1, (n, task.action_dim)).astype(np.float32),
        "next_observations": obs + step,
        "rewards": rng.standard_normal(n, np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": timeouts,
    }


def write_file(path: Path, task: Task, n: int) -> None:
    """An HDF5 file in D4RL's format, not compressed: reading is no part of the comparison."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in random_rows(task, n).items():
            file[name] = values
