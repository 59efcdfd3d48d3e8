"""What a run is made of: transitions on its device, policy and model, engine, trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.buffer import ReplayBuffer, RowSubset
from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics.prediction_error import (
    ROWS,
    Segments,
    cut_segments,
    prediction_error,
)
from offlinerlkit_romi.dynamics.space import ModelSpace
from offlinerlkit_romi.engine import Engine, Generators, derive_seed
from offlinerlkit_romi.envs import family_of
from offlinerlkit_romi.experiment.build import Setting, build_policy, make_lr_scheduler
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.estimates import Estimator
from offlinerlkit_romi.experiment.folder import SCALER
from offlinerlkit_romi.experiment.memory import (
    MemoryPlan,
    choose_place,
    free_bytes,
    networks_bytes,
    transition_bytes,
    working_bytes,
)
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.rewards import model_reward_map
from offlinerlkit_romi.model_buffer import HostReplayBuffer, MaskedReplayBuffer
from offlinerlkit_romi.policy_trainer import (
    Callback,
    MBPolicyTrainer,
    MFPolicyTrainer,
    OnEpoch,
    PolicyTrainer,
    Sentinel,
    SnapshotScorer,
    largest_value,
)
from offlinerlkit_romi.utils.logger import DEBUG
from offlinerlkit_romi.utils.scaler import StandardScaler


@dataclass(frozen=True)
class ModelData:
    """What a dynamics model learns from and leaves behind.

    Attributes:
        rows: Rows of the data that may teach it.
        fake: Where its transitions go.
        segments: Pieces of episodes that no update of it sees.
    """

    rows: ReplayBuffer | RowSubset
    fake: ReplayBuffer
    segments: Segments

    def held_out(self, policy: Any) -> dict[str, torch.Tensor]:
        """Open-loop error of its model on the held-out segments, one metric per step 1..H.

        With what the algorithm tells beside.
        """
        if not len(self.segments.observations):
            return {}
        errors = prediction_error(policy.dynamics, self.segments)  # (H,)
        found = {f"model/prediction_error_{step}": e for step, e in enumerate(errors, start=1)}
        return found | (policy.held_out(self.segments) if hasattr(policy, "held_out") else {})


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


@dataclass(frozen=True)
class RunParts:
    """What the trainer works on; the policy with its model."""

    setting: Setting
    buffers: Buffers
    policy: Any
    engine: Engine


def build_parts(context: Context) -> RunParts:
    """Put the data on the device, and build policy, model and engine."""
    config, logger, dataset = context.config, context.logger, context.dataset
    free = free_bytes(context.device)
    setting, buffers = prepare(config, dataset, context.device, context.generators)
    if setting.obs_scaler is not None:
        place = context.folder.path / SCALER
        place.mkdir(exist_ok=True)
        setting.obs_scaler.save_scaler(str(place))
    policy = build_policy(config, setting)
    plan = memory_plan(config, setting, buffers, policy, free)
    logger.log(str(plan), DEBUG)
    context.folder.note(memory=asdict(plan))
    engine = context.make_engine(_engine_mode(context, policy), context.device, logger.log)
    for part in (policy, getattr(policy, "dynamics", policy)):
        if hasattr(part, "engine"):
            part.engine = engine
    if config.model is not None:
        reward_map = model_reward_map(config, dataset)
        policy.dynamics.space = ModelSpace.of(setting.obs_scaler, reward_map)
    return RunParts(setting, buffers, policy, engine)


def _engine_mode(context: Context, policy: Any) -> str:
    """`--engine`; `auto` leaves to Python, on a CPU, what a user's code may change in between."""
    mode, own = context.config.engine, not type(policy).__module__.startswith("offlinerlkit_romi.")
    on_cpu = context.device.type == "cpu"
    return "eager" if mode == "auto" and on_cpu and (own or context.callbacks) else mode


def make_trainer(
    context: Context,
    parts: RunParts,
    scorer: SnapshotScorer,
    estimator: Estimator,
    on_epoch: OnEpoch,
    callbacks: Sequence[Callback],
) -> PolicyTrainer:
    """What trains the policy, from its first step on."""
    config, logger, policy, buffers = context.config, context.logger, parts.policy, parts.buffers

    rows = buffers.real.tensors()
    looked_at = {name: x[:: -(-len(x) // ROWS)] for name, x in rows.items()}

    def diagnose(epoch: int, leave_if_asked: Callable[[], None]) -> dict[str, Any]:
        """The model's error and its weights, and estimates where they are due."""
        found: dict[str, Any] = {}
        if hasattr(policy, "weight_shares"):
            found |= policy.weight_shares(looked_at)
        if buffers.model is not None:
            found |= buffers.model.held_out(policy)
        if estimator.due(epoch):
            found |= estimator(policy, epoch, leave_if_asked)
        return found

    sentinel = make_sentinel(config, policy, buffers.real)
    context.folder.note(q_bound=sentinel.largest_q)
    shared: dict[str, Any] = {
        "epoch": config.epoch,
        "step_per_epoch": config.step_per_epoch,
        "batch_size": config.batch_size,
        "eval_episodes": _episodes(context),
        "lr_scheduler": make_lr_scheduler(config, policy),
        "eval_freq": config.eval_freq,
        "data_source": context.dataset.info.source,
        "close_logger": False,
        "checkpoints": context.checkpoints,
        "interrupts": context.interrupts,
        "sentinel": sentinel,
        "on_divergence": config.on_divergence,
        "diagnose": diagnose,
        "on_epoch": on_epoch,
        "callbacks": callbacks,
        "engine": parts.engine,
    }
    if config.model is None:
        return MFPolicyTrainer(policy, scorer, buffers.real, logger, **shared)
    model, adaptation, data = config.model, config.model.adaptation, buffers.for_model
    return MBPolicyTrainer(
        policy,
        scorer,
        buffers.real,
        data.fake,
        logger,
        (model.rollout_freq, model.rollout_batch_size, model.rollout_length),
        real_ratio=model.real_ratio,
        dynamics_update_freq=0 if adaptation is None else adaptation.dynamics_update_freq,
        model_buffer=data.rows,
        updates_per_round=1 if adaptation is None else adaptation.updates_per_round,
        **shared,
    )


def _episodes(context: Context) -> int:
    """Episodes per evaluation, 0 where there is nothing to evaluate on; says so once."""
    wanted, family = context.config.eval_episodes, family_of(context.task)
    missing = [name for name in family.packages if find_spec(name) is None]
    if not wanted:
        reason = ", as asked"
    elif not context.task.env_id:
        reason = ": no simulator was named (env)"
    elif missing:
        reason = f": {' and '.join(missing)} not installed; {family.install}"
    else:
        return wanted
    context.logger.log(f"training without evaluation{reason}")
    return 0


def prepare(
    config: RunConfig, dataset: Dataset, device: torch.device, generators: Generators
) -> tuple[Setting, Buffers]:
    """Put the data on the device, standardised and scaled where the algorithm asks for it."""
    obs_dim, action_dim = dataset.observations.shape[1], dataset.actions.shape[1]
    setting = Setting(
        obs_dim, action_dim, device, generators, task=dataset.task, goal=dataset.info.goal
    )
    real = make_buffer(len(dataset), setting)
    free = free_bytes(device)
    choose_place(
        "device", 0, transition_bytes(setting, len(dataset)) + working_bytes(config, setting), free
    )
    # no other copy on the CPU: nothing is ever added to the data
    rewards = {"rewards": config.learned_rewards(dataset)}
    real.load_dataset(dataset.as_dict() | rewards, share=True)
    if config.standardises:
        mean, std = real.normalize_obs()
        setting = replace(setting, obs_scaler=StandardScaler(mu=mean, std=std))
    if config.model is None:
        return setting, Buffers(real)
    model = _model_data(config.model, dataset, real, setting, free_bytes(device))
    return setting, Buffers(real, model)


def _model_data(
    config: ModelBasedConfig,
    dataset: Dataset,
    real: ReplayBuffer,
    setting: Setting,
    free: int | None,
) -> ModelData:
    length = config.rollout_length
    # at most a hundredth of the data: a small data set needs its rows for the fit
    count = min(config.error_segments, len(dataset) // (100 * length))
    generator = setting.generators.evaluation
    segments, held_out = cut_segments(real.tensors(), length, count, generator)
    kept = ~held_out
    if dataset.model_rows is not None:
        kept &= torch.as_tensor(dataset.model_rows, device=setting.device)
    rows = real if bool(kept.all()) else RowSubset(real, kept.nonzero().squeeze(1))
    return ModelData(rows, make_model_buffer(config, setting, free), segments)


def make_sentinel(config: RunConfig, policy: Any, real: ReplayBuffer) -> Sentinel:
    """What watches a run: it knows how large the data's rewards and states are."""
    data = real.tensors()
    # entropy bonus of a policy uniform on [-1, 1]^A; log-variances of the model end at 0.5
    entropy = data["actions"].shape[1] * math.log(2) * config.largest_temperature
    spread = math.exp(0.25) * math.sqrt(data["observations"].shape[1] + 1)
    bonus = entropy + config.penalised * spread
    largest = largest_value(data["rewards"], config.discount, bonus)
    return Sentinel(policy.training_state(), largest, data["observations"])


def fake_buffer_rows(config: ModelBasedConfig) -> int:
    """Capacity of the model buffer: all rollouts of the epochs that are kept."""
    rollouts = max(1, config.step_per_epoch // config.rollout_freq) * config.model_retain_epochs
    return rollouts * config.rollout_batch_size * config.rollout_length


def make_buffer(
    rows: int,
    setting: Setting,
    kind: type[ReplayBuffer] = ReplayBuffer,
    generator: torch.Generator | None = None,
) -> ReplayBuffer:
    """An empty buffer on the run's device, drawing from the run's data generator or another."""
    return kind(
        buffer_size=rows,
        obs_shape=(setting.obs_dim,),
        obs_dtype=np.float32,
        action_dim=setting.action_dim,
        action_dtype=np.float32,
        device=setting.device,
        generator=setting.generators.data if generator is None else generator,
    )


def make_model_buffer(config: ModelBasedConfig, setting: Setting, free: int | None) -> ReplayBuffer:
    """An empty buffer for model transitions, where the configuration wants it.

    On the CPU it is an ordinary one. On CUDA a rollout fills it without waiting, or it lies in the
    host's memory.
    """
    rows = fake_buffer_rows(config)
    needed = transition_bytes(setting, rows)
    if choose_place(config.model_buffer, needed, working_bytes(config, setting), free) == "host":
        seed = derive_seed(setting.generators.seed, "data/host")
        return make_buffer(rows, setting, HostReplayBuffer, torch.Generator().manual_seed(seed))
    on_cuda = setting.device.type == "cuda"
    return make_buffer(rows, setting, MaskedReplayBuffer if on_cuda else ReplayBuffer)


def memory_plan(
    config: RunConfig, setting: Setting, buffers: Buffers, policy: Any, free: int | None
) -> MemoryPlan:
    """What the run takes of its device, which had `free` bytes before."""
    model, place = 0, "device"
    if config.model is not None:
        model = transition_bytes(setting, fake_buffer_rows(config.model))
        place = "host" if isinstance(buffers.for_model.fake, HostReplayBuffer) else "device"
    data = transition_bytes(setting, len(buffers.real))
    return MemoryPlan(
        data, model, networks_bytes(policy), working_bytes(config, setting), place, free
    )
