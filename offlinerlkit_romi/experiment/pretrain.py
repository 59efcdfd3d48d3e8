"""What happens before the policy trains: behaviour cloning and the model's fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from offlinerlkit_romi.buffer import ReplayBuffer, RowSubset
from offlinerlkit_romi.dynamics import EnsembleDynamics, FitProgress
from offlinerlkit_romi.dynamics.fit import log_fit
from offlinerlkit_romi.dynamics.prediction_error import one_step_errors
from offlinerlkit_romi.dynamics.space import read_space
from offlinerlkit_romi.engine.device import cpu_threads
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.dynamics_cache import (
    DynamicsCache,
    Fit,
    Used,
    cache_folder,
    ingredients,
    key_of,
    parts_of,
)
from offlinerlkit_romi.experiment.model_config import AdversarialConfig, ModelBasedConfig
from offlinerlkit_romi.utils.logger import Logger
from offlinerlkit_romi.utils.text import bar


def pretrain(
    policy: Any,
    real_buffer: ReplayBuffer,
    model_buffer: ReplayBuffer | RowSubset,
    config: ModelBasedConfig,
    logger: Logger,
    check: Callable[[], None] = lambda: None,
) -> Used | None:
    """Warm up the policy and its model, or load what earlier runs left.

    Args:
        policy: Has `dynamics`; its observations are those of the buffers.
        real_buffer: What behaviour cloning learns from.
        model_buffer: What the model learns from.
        config: Epochs, rates and paths.
        logger: Takes the fit's curves.
        check: Called after every step of the cloning and every epoch of the fit; may raise to
            leave.

    Returns:
        Which fit of the model it was; None where it was read from a folder, or there is none.
    """
    learns, folder = policy.dynamics.learns, config.load_dynamics_path
    if learns and folder is not None:  # first: it may be refused
        _load_model(policy.dynamics, model_buffer.tensors(), folder, logger)
    if config.cloning is not None:
        _clone(policy, real_buffer, config.cloning, logger, check)
    if not learns:
        logger.log("the true simulator stands in the model's place: a diagnostic, not offline RL")
    if not learns or folder is not None:
        return None
    with cpu_threads(config.dynamics_threads):
        fit, used = _obtain_fit(policy.dynamics, model_buffer.tensors(), config, logger, check)
    logger.log(f"dynamics model: held-out error {float(fit.errors.mean()):.4g} (mean over members)")
    return used


def _load_model(
    dynamics: EnsembleDynamics, rows: dict[str, torch.Tensor], folder: str, logger: Logger
) -> None:
    """Read a saved model, and look at it on some of the data's rows.

    Raises:
        UserError: It says that it is of other observations or rewards; or it does not say of which,
            and predicts the next observation worse than whoever predicts no change.
    """
    dynamics.load(folder)
    error, unchanged = one_step_errors(dynamics, rows)
    found = f"one-step error {error:.3g} on the data, {unchanged:.3g} for predicting no change"
    if not error < unchanged and read_space(folder) is None:
        raise UserError(
            f"--load-dynamics-path {folder}: the model does not say which observations and rewards "
            f"it is of, and it is of no use here ({found}); leave it out"
        )
    logger.log(f"dynamics model read from {folder}: {found}")


def _obtain_fit(
    dynamics: EnsembleDynamics,
    rows: dict[str, Any],
    config: ModelBasedConfig,
    logger: Logger,
    check: Callable[[], None],
) -> tuple[Fit, Used]:
    """Fit the model, or take the same fit from the cache."""
    settings = fit_settings(config)
    folder = cache_folder(config)
    if folder is None:
        fit = _fit(dynamics, rows, settings, logger, check)
        return fit, Used(None, False, fit.fitted_by, fit.seconds)
    store, parts = DynamicsCache(folder, logger.log), parts_of(dynamics)
    about = ingredients(dynamics, rows, config.seed, settings)
    key = key_of(about)
    with store.held(key):
        cached = store.take(key, parts)
        if cached is None:
            fit = _fit(dynamics, rows, settings, logger, check)
            store.put(key, parts, fit, about)
            return fit, Used(key, False, fit.fitted_by, fit.seconds)
    logger.log(f"dynamics model: taken from the cache (fitted by {cached.fitted_by})")
    write_row = log_fit(logger, None)
    for progress in cached.progress:
        write_row(progress)
    dynamics.save(logger.model_dir)
    return cached, Used(key, True, cached.fitted_by, cached.seconds)


def fit_settings(config: ModelBasedConfig) -> dict[str, Any]:
    """What the fit is told; more than the rows and the model's own state decide."""
    return {
        "max_epochs": config.dynamics_max_epochs,
        "max_epochs_since_update": _patience(config),
        "batch_size": config.dynamics_batch_size,
        "holdout_ratio": config.holdout_ratio,
        "logvar_loss_coef": config.logvar_loss_coef,
    }


def _fit(
    dynamics: EnsembleDynamics,
    rows: dict[str, Any],
    settings: dict[str, Any],
    logger: Logger,
    check: Callable[[], None],
) -> Fit:
    start = time.perf_counter()
    with FitReport(logger, check) as report:
        errors = dynamics.train(rows, logger, **settings, on_epoch=report)
    return Fit(errors, report.progress, time.perf_counter() - start, str(logger.dir))


def _clone(
    policy: Any,
    buffer: ReplayBuffer,
    config: AdversarialConfig,
    logger: Logger,
    check: Callable[[], None],
) -> None:
    if config.load_bc_path is not None:
        policy.load(config.load_bc_path)
        logger.log(f"cloned policy read from {config.load_bc_path}")
    elif config.bc_epoch:
        logger.log(f"behaviour cloning for {config.bc_epoch} epochs")
        loss = policy.pretrain(
            buffer.tensors(), config.bc_epoch, config.bc_batch_size, config.bc_lr, logger, check
        )
        logger.log(f"behaviour cloning: mean squared error {loss:.4g}")


def _patience(config: ModelBasedConfig) -> int:
    """Epochs without improvement that end the fit; no more than it has where it has an end.

    Fits that only differ in a patience they cannot run out of are the same.
    """
    most = config.dynamics_max_epochs
    if config.dynamics_early_stop:
        patience = config.max_epochs_since_update
        return patience if most is None else min(patience, most)
    assert most is not None  # `validate` saw to it
    return most


class FitReport:
    """Shows a fit's epochs: a bar on a terminal, a line at 1, 2, 5, 10, 20, 30 ... elsewhere.

    Attributes:
        progress: The epochs so far.
    """

    def __init__(self, logger: Logger, check: Callable[[], None]) -> None:
        self._logger, self._check = logger, check
        self.progress: list[FitProgress] = []
        self._title, self._row = f"{logger.label}dynamics model", logger.row
        self._bar: Any = None

    def __enter__(self) -> FitReport:
        if self._logger.shows_bars:
            self._bar = bar(self._title, None, "epoch", position=self._row)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: FitProgress) -> None:
        """Tell of an epoch, then leave if asked to."""
        self.progress.append(progress)
        self._show(progress)
        self._check()

    def _show(self, progress: FitProgress) -> None:
        if self._bar is not None:
            self._bar.total = progress.max_epochs
            self._bar.set_postfix(holdout=f"{progress.holdout_loss:.4g}")
            self._bar.update()
        elif progress.epoch in (1, 2, 5) or progress.epoch % 10 == 0:
            of = "" if progress.max_epochs is None else f"/{progress.max_epochs}"
            self._logger.log(
                f"dynamics model: epoch {progress.epoch}{of}, held-out error "
                f"{progress.holdout_loss:.4g}"
            )
