"""What happens before the policy trains: behaviour cloning and the model's fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.experiment.config import AdversarialConfig, ModelBasedConfig
from offlinerlkit_romi.policy_trainer.progress import on_terminal
from offlinerlkit_romi.utils.logger import Logger


def pretrain(
    policy: Any,
    real_buffer: ReplayBuffer,
    model_buffer: ReplayBuffer,
    config: ModelBasedConfig,
    logger: Logger,
) -> None:
    """Warm up the policy and its model, or load what earlier runs left.

    Args:
        policy: Has `dynamics`; its observations are those of the buffers.
        real_buffer: What behaviour cloning learns from.
        model_buffer: What the model learns from.
        config: Epochs, rates and paths.
        logger: Takes the fit's curves.
    """
    if isinstance(config, AdversarialConfig):
        _clone(policy, real_buffer, config, logger)
    if config.load_dynamics_path is not None:
        policy.dynamics.load(config.load_dynamics_path)
        logger.log(f"dynamics model read from {config.load_dynamics_path}")
        return
    with _FitReport(logger) as report:
        errors = policy.dynamics.train(
            model_buffer.tensors(),
            logger,
            max_epochs=config.dynamics_max_epochs,
            max_epochs_since_update=_patience(config),
            batch_size=config.dynamics_batch_size,
            holdout_ratio=config.holdout_ratio,
            logvar_loss_coef=config.logvar_loss_coef,
            on_epoch=report,
        )
    logger.log(f"dynamics model: held-out error {float(errors.mean()):.4g} (mean over members)")


def _clone(policy: Any, buffer: ReplayBuffer, config: AdversarialConfig, logger: Logger) -> None:
    if config.load_bc_path is not None:
        policy.load(config.load_bc_path)
        logger.log(f"cloned policy read from {config.load_bc_path}")
    elif config.bc_epoch:
        logger.log(f"behaviour cloning for {config.bc_epoch} epochs")
        loss = policy.pretrain(
            buffer.tensors(), config.bc_epoch, config.bc_batch_size, config.bc_lr, logger
        )
        logger.log(f"behaviour cloning: mean squared error {loss:.4g}")


def _patience(config: ModelBasedConfig) -> int:
    """Epochs without improvement that end the fit; out of reach where early stopping is off."""
    if config.dynamics_early_stop:
        return config.max_epochs_since_update
    assert config.dynamics_max_epochs is not None  # `validate` saw to it
    return config.dynamics_max_epochs + 1


class _FitReport:
    """Shows a fit's epochs: a bar on a terminal, a line at 1, 2, 5, 10, 20, 30 ... elsewhere."""

    def __init__(self, logger: Logger) -> None:
        self._log: Callable[[str], None] = logger.log
        self._bar: Any = None

    def __enter__(self) -> _FitReport:
        if on_terminal():
            from tqdm import tqdm

            self._bar = tqdm(desc="dynamics model", unit="epoch", dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Any) -> None:
        if self._bar is not None:
            self._bar.total = progress.max_epochs
            self._bar.set_postfix(holdout=f"{progress.holdout_loss:.4g}")
            self._bar.update()
        elif progress.epoch in (1, 2, 5) or progress.epoch % 10 == 0:
            of = "" if progress.max_epochs is None else f"/{progress.max_epochs}"
            self._log(
                f"dynamics model: epoch {progress.epoch}{of}, held-out error "
                f"{progress.holdout_loss:.4g}"
            )
