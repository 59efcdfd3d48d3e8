"""What is timed: the sizes, and data that costs what a task's data cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.data.dataset import DataInfo
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.resolve import settle

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
        info = DataInfo(self.task.name, "file", "", "", "none: random numbers", 0, 0.0)
        return Dataset(
            arrays["observations"],
            arrays["actions"],
            arrays["next_observations"],
            arrays["rewards"][:, None],
            arrays["terminals"][:, None],
            info,
        )

    def evaluation_task(self) -> Task:
        """HalfCheetah with the episodes' length."""
        return replace(get_task(EVALUATION_TASK), max_episode_steps=self.episode_steps)


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
