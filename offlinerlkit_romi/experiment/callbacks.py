"""The callbacks that a configuration asks for, and what a run tells them of itself."""

from __future__ import annotations

from offlinerlkit_romi.experiment.config import RunConfig, as_dict
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.trackers import NONE, Tracker
from offlinerlkit_romi.policy_trainer import (
    Callback,
    EarlyStopping,
    KeepBest,
    KeepCheckpoints,
    PolicyTrainer,
    RunInfo,
)


def asked_for(config: RunConfig) -> list[Callback]:
    """Those that settings ask for; of one run each."""
    found: list[Callback] = []
    if config.keep_best:  # before whoever stops: its row may be the best
        found.append(KeepBest())
    if config.keep_checkpoints:
        found.append(KeepCheckpoints(config.keep_checkpoints))
    if config.tracker != NONE:
        found.append(Tracker(config.tracker))
    if config.early_stop_patience:
        found.append(EarlyStopping(config.early_stop_patience))
    return found


def told_of(context: Context, trainer: PolicyTrainer) -> RunInfo:
    """What a run tells its callbacks."""
    config = context.config
    return RunInfo(
        run_dir=context.folder.path,
        algo=context.resolved.algo,
        task=config.task,
        seed=config.seed,
        settings=as_dict(config),
        policy=trainer.policy,
        steps_done=trainer.steps_done,
        evaluates=trainer.scorer is not None,
        tell=context.logger.log,
    )
