"""Building a run: its trainer with all that belongs to it, and what to tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics.space import ModelSpace
from offlinerlkit_romi.engine import Engine, Generators, make_engine
from offlinerlkit_romi.engine.device import device_name
from offlinerlkit_romi.envs import Task, family_of
from offlinerlkit_romi.experiment.buffers import Buffers, make_sentinel, memory_plan, prepare
from offlinerlkit_romi.experiment.build import Setting, build_policy, make_lr_scheduler
from offlinerlkit_romi.experiment.config import RunConfig, left_out
from offlinerlkit_romi.experiment.estimates import Estimator, make_estimator
from offlinerlkit_romi.experiment.evaluation import evaluates_in_worker, make_evaluation
from offlinerlkit_romi.experiment.folder import SCALER
from offlinerlkit_romi.experiment.memory import free_bytes
from offlinerlkit_romi.experiment.own_data import task_of
from offlinerlkit_romi.experiment.pretrain import pretrain
from offlinerlkit_romi.experiment.rewards import model_reward_map
from offlinerlkit_romi.experiment.session import Session
from offlinerlkit_romi.experiment.summary import source_label
from offlinerlkit_romi.policy_trainer import (
    Checkpoints,
    MBPolicyTrainer,
    MFPolicyTrainer,
    PolicyTrainer,
    SnapshotScorer,
)
from offlinerlkit_romi.utils.logger import Logger


def assemble(session: Session) -> PolicyTrainer:
    """Build everything, then pre-train the policy and its model, or go on where a run stopped."""
    config, logger = session.resolved.config, session.logger
    generators, free = Generators(config.seed, session.device), free_bytes(session.device)
    setting, buffers = prepare(config, session.dataset, session.device, generators)
    checkpoints = session.checkpoints(generators)
    resuming = bool(checkpoints.store.steps())
    if not resuming:
        logger.load_state_dict({})  # rows of a run that was killed before its first state
        _announce(config, session.dataset, setting, logger)
    if setting.obs_scaler is not None:
        place = session.folder.path / SCALER
        place.mkdir(exist_ok=True)
        setting.obs_scaler.save_scaler(str(place))
    policy = build_policy(config, setting)
    logger.log(str(memory_plan(config, setting, buffers, policy, free)))
    engine = make_engine(config.engine, session.device, logger.log)
    for part in (policy, getattr(policy, "dynamics", policy)):
        if hasattr(part, "engine"):
            part.engine = engine
    if config.model is not None:
        reward_map = model_reward_map(config, session.dataset)
        policy.dynamics.space = ModelSpace.of(setting.obs_scaler, reward_map)
    if config.model is not None and not resuming:
        rows, check = buffers.for_model.rows, session.interrupts.check
        used = pretrain(policy, buffers.real, rows, config.model, logger, check)
        session.folder.note(dynamics_fit=None if used is None else asdict(used))
    scorer = make_evaluation(config, setting, session.task, logger.log)
    estimator = make_estimator(
        config,
        setting,
        session.dataset,
        session.task,
        policy,
        logger,
        session.interrupts.check,
        fitted=not resuming,
    )
    trainer = _make_trainer(session, policy, scorer, buffers, checkpoints, estimator, engine)
    session.begin(trainer, checkpoints)
    return trainer


def _make_trainer(
    session: Session,
    policy: Any,
    scorer: SnapshotScorer,
    buffers: Buffers,
    checkpoints: Checkpoints,
    estimator: Estimator,
    engine: Engine,
) -> PolicyTrainer:
    config, logger = session.resolved.config, session.logger

    def diagnose(epoch: int, leave_if_asked: Callable[[], None]) -> dict[str, Any]:
        """The model's error, and estimates where they are due."""
        found: dict[str, Any] = {}
        if buffers.model is not None:
            found |= buffers.model.prediction_error(policy.dynamics)
        if estimator.due(epoch):
            found |= estimator(policy, epoch, leave_if_asked)
        return found

    shared: dict[str, Any] = {
        "epoch": config.epoch,
        "step_per_epoch": config.step_per_epoch,
        "batch_size": config.batch_size,
        "eval_episodes": _episodes(config, session.task, logger),
        "lr_scheduler": make_lr_scheduler(config, policy),
        "eval_freq": config.eval_freq,
        "data_source": session.dataset.info.source,
        "close_logger": False,
        "checkpoints": checkpoints,
        "interrupts": session.interrupts,
        "sentinel": make_sentinel(config, policy, buffers.real),
        "on_divergence": config.on_divergence,
        "diagnose": diagnose,
        "engine": engine,
    }
    if config.model is None:
        return MFPolicyTrainer(policy, scorer, buffers.real, logger, **shared)
    model, adversary, data = config.model, config.model.adversary, buffers.for_model
    return MBPolicyTrainer(
        policy,
        scorer,
        buffers.real,
        data.fake,
        logger,
        (model.rollout_freq, model.rollout_batch_size, model.rollout_length),
        real_ratio=model.real_ratio,
        dynamics_update_freq=0 if adversary is None else adversary.dynamics_update_freq,
        model_buffer=data.rows,
        updates_per_round=1 if adversary is None else adversary.adv_train_steps,
        **shared,
    )


def _announce(config: RunConfig, dataset: Dataset, setting: Setting, logger: Logger) -> None:
    info = dataset.info
    source = source_label(info.source, config.task)
    logger.log(f"{config.task}: {len(dataset):,} transitions, {source}")
    for note in info.notes:
        logger.log(f"note: {note}")
    where = f"on {setting.device} ({device_name(setting.device)})"
    if config.eval_episodes and evaluates_in_worker(config, task_of(dataset), setting.device):
        where += "; evaluation in a worker process"
    logger.log(where)
    logger.log(f"run folder: {logger.dir}")
    for line in left_out(config):
        logger.log(f"note: {line}")


def _episodes(config: RunConfig, task: Task, logger: Logger) -> int:
    """Episodes per evaluation, 0 where there is nothing to evaluate on; says so once."""
    family = family_of(task)
    if config.eval_episodes and not task.env_id:
        logger.log("training without evaluation: no simulator was named (env)")
        return 0
    missing = [name for name in family.packages if find_spec(name) is None]
    if config.eval_episodes and missing:
        logger.log(
            f"training without evaluation: {' and '.join(missing)} not installed; {family.install}"
        )
        return 0
    if not config.eval_episodes:
        logger.log("training without evaluation, as asked")
    return config.eval_episodes
