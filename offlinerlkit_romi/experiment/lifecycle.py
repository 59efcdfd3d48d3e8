"""One run, from top to bottom: its data, its folder, its parts, the fit, the training, the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from offlinerlkit_romi.data import Dataset, load
from offlinerlkit_romi.data.doctor.before_training import examined
from offlinerlkit_romi.data.load import Source
from offlinerlkit_romi.data.user import MEMORY
from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
from offlinerlkit_romi.engine.device import device_name, peak_memory, resolve_device
from offlinerlkit_romi.envs import normalized_score
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.callbacks import asked_for, told_of
from offlinerlkit_romi.experiment.config import RunConfig, as_dict, left_out
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.dynamics_cache import check_cache
from offlinerlkit_romi.experiment.estimates import BEHAVIOUR, FQE, MODEL, make_estimator
from offlinerlkit_romi.experiment.evaluation import evaluates_in_worker, make_evaluation
from offlinerlkit_romi.experiment.folder import (
    CURVE_FIGURE,
    SUMMARY,
    RunFolder,
    estimates_of,
    obs_std,
)
from offlinerlkit_romi.experiment.memory import told_if_short
from offlinerlkit_romi.experiment.parts import RunParts, build_parts, make_trainer
from offlinerlkit_romi.experiment.pretrain import pretrain
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.experiment.resume import check_data, other_circumstances, same_arithmetic
from offlinerlkit_romi.experiment.rewards import check_episodes
from offlinerlkit_romi.experiment.summary import PHASES, Summary, source_label, summarize
from offlinerlkit_romi.experiment.trackers import import_tracker
from offlinerlkit_romi.experiment.user_data import check_task, load_own_data, task_of
from offlinerlkit_romi.policy_trainer import PolicyTrainer
from offlinerlkit_romi.policy_trainer.timing import PhaseTimer
from offlinerlkit_romi.utils.logger import BACKUP, DEBUG
from offlinerlkit_romi.utils.plotter import AXES, plot_learning_curve

# (policy steps, values by name), oldest first
Estimates = list[tuple[int, dict[str, float]]]


def check_input(config: RunConfig, source: Source) -> torch.device:
    """Find what is wrong before anything is read or made; returns the device.

    Raises:
        UserError: It is.
    """
    source.check()
    device = resolve_device(config.device)
    import_tracker(config.tracker)
    _check_paths(config)
    return device


def _check_paths(config: RunConfig) -> None:
    """Find a wrong path before a run folder exists."""
    model = config.model
    if model is None:
        return
    places = [("load_dynamics_path", "dynamics.pth", model.load_dynamics_path)]
    if model.cloning is not None:
        places += [("load_bc_path", "rambo_pretrain.pth", model.cloning.load_bc_path)]
    for name, file, folder in places:
        if folder is not None and not (Path(folder) / file).is_file():
            raise UserError(
                f"--{name.replace('_', '-')} {folder}: no {file} there; "
                "give the model folder of an earlier run"
            )
    check_cache(model)


def settle_arithmetic(config: RunConfig, earlier: RunFolder | None, device: torch.device) -> None:
    """Set threads and kernels of this process, for a resumed run as they were."""
    if config.threads:
        torch.set_num_threads(config.threads)
    choose_matmul_precision(config.matmul_precision, device)
    keep_freed_memory()
    if earlier is not None:
        same_arithmetic(earlier)


def obtain_data(
    config: RunConfig, source: Source, earlier: RunFolder | None, *, progress: bool = True
) -> Dataset:
    """Load the transitions, unless they are loaded, and check them.

    Raises:
        UserError: They cannot be had, or are not those the run began on.
    """
    dataset = source.dataset
    if dataset is None:
        record = None if earlier is None else earlier.manifest["data"]
        dataset = load_own_data(config, source, record)
    if dataset is None:
        dataset = load(
            config.task,
            config.data,
            transitions=config.transitions,
            seed=config.data_seed,
            progress=progress,
        )
    if earlier is not None:
        check_data(earlier, dataset)
    check_task(config, task_of(dataset))
    if config.doctor and earlier is None:
        dataset = examined(dataset, task_of(dataset))
    check_episodes(config, dataset)
    return dataset


def carry_out(context: Context) -> Summary:
    """Train and leave everything in the run's folder.

    Raises:
        TrainingInterrupted: A signal; the message says how to go on.
    """
    logger, resolved = context.logger, context.resolved
    try:
        with context.folder.lock(), context.interrupts, told_if_short():
            return _train(context)
    except TrainingInterrupted as stop:
        message = f"{stop}; go on with: {_resume_command(resolved, logger.dir)}"
        # on the console who called tells it, for all runs there are
        logger.log(str(stop)) if context.label else logger.log(message, BACKUP)
        raise TrainingInterrupted(message) from None
    except KeyboardInterrupt:
        logger.log(f"interrupted; what there is lies in {logger.dir}")
        raise
    finally:
        logger.close()


def _resume_command(resolved: Resolved, folder: str) -> str:
    """What goes on with a run, to be copied as it stands."""
    if resolved.config.data == MEMORY:  # only Python has the data
        return f"offlinerlkit_romi.train({resolved.algo!r}, data=..., resume={folder!r})"
    algo = ALGORITHMS.spelled(resolved.algo)
    return shlex.join(["offlinerlkit-romi", "train", algo, "--resume", folder])


def _train(context: Context) -> Summary:
    logger, resolved = context.logger, context.resolved
    if context.earlier is None:
        context.folder.begin(resolved, context.dataset, context.device, context.argv)
        logger.log_hyperparameters({"algo": resolved.algo, **as_dict(context.config)})
    resuming = bool(context.checkpoints.store.steps())
    if not resuming:
        logger.load_state_dict({})  # rows of a run that was killed before its first state
        _announce(context)
    parts = build_parts(context)
    if not resuming:
        _fit(context, parts)
    estimates: Estimates = []
    trainer = _make_trainer(context, parts, estimates, fitted=not resuming)
    estimates += _begin(context, trainer)

    def work() -> Summary:
        trainer.train()
        return _close(context, trainer, estimates)

    return trainer.callbacks.around(told_of(context, trainer), work)


def _announce(context: Context) -> None:
    """Tell of the data, and where the run takes place."""
    config, info, tell = context.config, context.dataset.info, context.logger.log
    source = source_label(info.source, config.task)
    tell(f"{config.task}: {len(context.dataset):,} transitions, {source}")
    for note in info.notes:
        tell(f"note: {note}")
    where = f"on {context.device} ({device_name(context.device)})"
    if config.eval_episodes and evaluates_in_worker(config, context.task, context.device):
        where += "; evaluation in a worker process"
    tell(where, DEBUG)
    tell(f"run folder: {context.logger.dir}")
    for line in left_out(config):
        tell(f"note: {line}")


def _fit(context: Context, parts: RunParts) -> None:
    """Warm up the policy and its model, and note which fit it was."""
    model, buffers = context.config.model, parts.buffers
    if model is None:
        return
    logger, check = context.logger, context.interrupts.check
    used = pretrain(parts.policy, buffers.real, buffers.for_model.rows, model, logger, check)
    context.folder.note(dynamics_fit=None if used is None else asdict(used))


def _make_trainer(
    context: Context, parts: RunParts, estimates: Estimates, *, fitted: bool
) -> PolicyTrainer:
    """The trainer, and what it asks once per epoch; estimates are collected as rows are written."""
    config = context.config

    def on_epoch(epoch: int, row: Mapping[str, float]) -> None:
        if found := estimates_of(row):
            estimates.append((epoch * config.step_per_epoch, found))

    std = obs_std(context.dataset) if config.eval_shift else None
    scorer = make_evaluation(config, parts.setting, context.task, context.logger.log, std)
    estimator = make_estimator(context, parts.setting, parts.policy, fitted=fitted)
    callbacks = (*asked_for(config), *context.callbacks)
    return make_trainer(context, parts, scorer, estimator, on_epoch, callbacks)


def _begin(context: Context, trainer: PolicyTrainer) -> Estimates:
    """Put a resumed trainer where it was, or save the start of a new one.

    Returns:
        The estimates of the rows that earlier processes have written.
    """
    step, logger, folder = trainer.resume(), context.logger, context.folder
    if step is None:
        context.checkpoints.begun(trainer.state_parts())
        return []
    logger.log(f"resumed after step {step}: {logger.dir}")
    for difference in other_circumstances(folder, context.device):
        logger.log(f"note: {difference}: the last digits may differ")
    folder.note_resumption(context.resolved, step, context.device, context.argv)
    return folder.estimates()


def _close(context: Context, trainer: PolicyTrainer, estimates: Estimates) -> Summary:
    """Write and show what came out."""
    # of the epochs that were: a callback may have ended the run before its last
    config = replace(context.config, epoch=trainer.epochs_done)
    info, stopped = context.dataset.info, trainer.callbacks.stopped
    summary = summarize(
        trainer.history,
        trainer.timer.totals(),
        run_dir=context.logger.dir,
        algo=context.resolved.algo,
        task=config.task,
        data_source=info.source,
        seed=config.seed,
        steps=config.steps,
        counts=_counts(config, trainer.timer),
        score_behaviour=float(normalized_score(info.behaviour_return, context.task)),
        return_behaviour=info.behaviour_return,
        estimates=estimates[-1][1] if estimates else {},
        wall_seconds=context.clock.seconds(),
        stopped=stopped,
        peak_memory=peak_memory(context.device),
    )
    context.folder.finish(summary)
    # a run without its summary is unfinished: not before it
    parts = trainer.state_parts() if trainer.sound else None
    context.checkpoints.finished(summary.steps, parts, keep=bool(stopped))
    context.logger.log(summary.table(), DEBUG)
    _draw(context, trainer, estimates, summary)
    context.logger.log(f"summary: {context.folder.path / SUMMARY}", DEBUG)
    return summary


def _counts(config: RunConfig, timer: PhaseTimer) -> dict[str, int]:
    """How often each recurring part was done: as counted, where it has a phase of its own."""
    done = timer.counts()
    names = {part.name.replace(" ", "_"): part.times for part in config.recurring}
    return {
        f"{name}s": done.get(name, 0) if name in PHASES else times for name, times in names.items()
    }


def _draw(context: Context, trainer: PolicyTrainer, estimates: Estimates, summary: Summary) -> None:
    """The learning curve; without one the estimates, where there are several."""
    figure = context.folder.path / CURVE_FIGURE
    tell = partial(context.logger.log, level=DEBUG)
    if trainer.history:
        steps, scores = zip(*trainer.history, strict=True)
        plot_learning_curve(
            figure,
            steps,
            [score.mean for score in scores],
            [score.std for score in scores],
            title=summary.title(),
            reference=summary.result("behaviour"),
            reference_label=f"the data's own {scores[-1].scale}",
            y_label=AXES[scores[-1].scale],
        )
        tell(f"learning curve: {figure}")
    elif _plot_estimates(other := figure.with_name("estimates.png"), estimates, summary):
        tell(f"estimates: {other}")


def _plot_estimates(path: Path, estimates: Estimates, summary: Summary) -> bool:
    """Draw the estimate that was made most often, FQE's or the model's, if more than once."""
    name = max((FQE, MODEL), key=lambda name: sum(name in values for _, values in estimates))
    points = [(step, values[name]) for step, values in estimates if name in values]
    if len(points) < 2:
        return False
    plot_learning_curve(
        path,
        [step for step, _ in points],
        [value for _, value in points],
        [0.0] * len(points),
        title=summary.title(),
        reference=summary.estimates.get(BEHAVIOUR),
        reference_label="the data's own discounted return",
        y_label=f"{name} estimate of the discounted return (not a score)",
    )
    return True
