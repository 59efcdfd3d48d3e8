"""The run's transitions: the data, what of it may teach a model, and the model's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.prediction_error import Segments, cut_segments, prediction_error
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.experiment.algorithms import TD3BCConfig
from offlinerlkit_romi.experiment.build import Setting
from offlinerlkit_romi.experiment.config import (
    AdversarialConfig,
    ModelBasedConfig,
    RunConfig,
    SoftConfig,
)
from offlinerlkit_romi.experiment.rewards import scaled_rewards
from offlinerlkit_romi.policy_trainer import Sentinel, largest_value
from offlinerlkit_romi.utils.scaler import StandardScaler


@dataclass(frozen=True)
class ModelData:
    """What a dynamics model learns from and leaves behind.

    Attributes:
        rows: Rows of the data that may teach it.
        fake: Where its transitions go.
        segments: Pieces of episodes that no update of it sees.
    """

    rows: ReplayBuffer
    fake: ReplayBuffer
    segments: Segments

    def prediction_error(self, dynamics: EnsembleDynamics) -> dict[str, torch.Tensor]:
        """Open-loop error of the model on the held-out segments, one metric per step 1..H."""
        if not len(self.segments.observations):
            return {}
        errors = prediction_error(dynamics, self.segments)  # (H,)
        return {f"model/prediction_error_{step}": e for step, e in enumerate(errors, start=1)}


@dataclass(frozen=True)
class Buffers:
    """Transitions on the run's device, observations as the policy sees them.

    Attributes:
        real: The whole data set.
        model: For algorithms with a model, what it learns from; None for the others.
    """

    real: ReplayBuffer
    model: ModelData | None = None

    @property
    def for_model(self) -> ModelData:
        """`model`, where there is one."""
        assert self.model is not None
        return self.model


def prepare(
    config: RunConfig, dataset: Dataset, device: torch.device, generators: Generators
) -> tuple[Setting, Buffers]:
    """Put the data on the device, standardised and scaled where the algorithm asks for it."""
    obs_dim, action_dim = dataset.observations.shape[1], dataset.actions.shape[1]
    setting = Setting(
        obs_dim, action_dim, device, generators, task=dataset.task, goal=dataset.info.goal
    )
    real = make_buffer(len(dataset), setting)
    real.load_dataset(dataset.as_dict() | {"rewards": scaled_rewards(config, dataset)})
    if normalizes_observations(config):
        mean, std = real.normalize_obs()
        setting = replace(setting, obs_scaler=StandardScaler(mu=mean, std=std))
    if not isinstance(config, ModelBasedConfig):
        return setting, Buffers(real)
    return setting, Buffers(real, _model_data(config, dataset, real, setting))


def _model_data(
    config: ModelBasedConfig, dataset: Dataset, real: ReplayBuffer, setting: Setting
) -> ModelData:
    length = config.rollout_length
    # at most a hundredth of the data: a small data set needs its rows for the fit
    count = min(config.error_segments, len(dataset) // (100 * length))
    generator = setting.generators.evaluation
    segments, held_out = cut_segments(real.tensors(), length, count, generator)
    kept = ~held_out
    if dataset.model_rows is not None:
        kept &= torch.as_tensor(dataset.model_rows, device=setting.device)
    rows = real if bool(kept.all()) else _rows_of(real, kept, setting)
    return ModelData(rows, make_buffer(fake_buffer_rows(config), setting), segments)


def make_sentinel(config: RunConfig, policy: Any, real: ReplayBuffer) -> Sentinel:
    """What watches a run: it knows how large the data's rewards and states are."""
    data = real.tensors()
    # entropy bonus of a policy uniform on [-1, 1]^A; log-variances of the model end at 0.5
    alpha = 0.0
    if isinstance(config, SoftConfig):
        alpha = 1.0 if config.auto_alpha else config.alpha
    entropy = data["actions"].shape[1] * math.log(2) * alpha
    spread = math.exp(0.25) * math.sqrt(data["observations"].shape[1] + 1)
    penalty = getattr(config, "penalty_coef", 0.0) * spread
    largest = largest_value(data["rewards"], getattr(config, "gamma", 0.99), entropy + penalty)
    return Sentinel(policy.training_state(), largest, data["observations"])


def normalizes_observations(config: RunConfig) -> bool:
    """RAMBO, ROMI and, if told, TD3+BC standardise observations; the others do not (as the kit)."""
    told = isinstance(config, TD3BCConfig) and config.normalize_obs
    return told or isinstance(config, AdversarialConfig)


def fake_buffer_rows(config: ModelBasedConfig) -> int:
    """Capacity of the model buffer: all rollouts of the epochs that are kept."""
    rollouts = max(1, config.step_per_epoch // config.rollout_freq) * config.model_retain_epochs
    return rollouts * config.rollout_batch_size * config.rollout_length


def buffer_gigabytes(rows: int, setting: Setting) -> float:
    """Size of a buffer of float32 transitions."""
    return rows * (2 * setting.obs_dim + setting.action_dim + 2) * 4 / 1e9


def make_buffer(rows: int, setting: Setting) -> ReplayBuffer:
    """An empty buffer on the run's device, drawing from its data generator."""
    return ReplayBuffer(
        buffer_size=rows,
        obs_shape=(setting.obs_dim,),
        obs_dtype=np.float32,
        action_dim=setting.action_dim,
        action_dtype=np.float32,
        device=setting.device,
        generator=setting.generators.data,
    )


def _rows_of(buffer: ReplayBuffer, kept: torch.Tensor, setting: Setting) -> ReplayBuffer:
    part = make_buffer(int(kept.sum()), setting)
    part.add_batch(*(column[kept] for column in buffer.tensors().values()))
    return part
