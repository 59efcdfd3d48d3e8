"""One run from a task's name to a folder with a trained policy, its scores and its papers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from offlinerlkit_romi.data import Dataset, load
from offlinerlkit_romi.data.front import is_own
from offlinerlkit_romi.data.own import MEMORY
from offlinerlkit_romi.engine import (
    Engine,
    Generators,
    choose_matmul_precision,
    keep_freed_memory,
    make_engine,
)
from offlinerlkit_romi.envs import Task, family_of, get_task, normalized_score
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.buffers import (
    Buffers,
    make_sentinel,
    memory_plan,
    prepare,
)
from offlinerlkit_romi.experiment.build import (
    Setting,
    build_policy,
    make_lr_scheduler,
)
from offlinerlkit_romi.experiment.config import (
    ModelBasedConfig,
    RunConfig,
    as_dict,
    validate,
)
from offlinerlkit_romi.experiment.dynamics_cache import Used, check_cache
from offlinerlkit_romi.experiment.estimates import (
    BEHAVIOUR,
    FQE,
    MODEL,
    Estimator,
    make_estimator,
    read_estimates,
)
from offlinerlkit_romi.experiment.evaluation import evaluates_in_worker, make_evaluation
from offlinerlkit_romi.experiment.examination import examined
from offlinerlkit_romi.experiment.manifest import (
    describe_config,
    device_name,
    make_manifest,
    write_json,
)
from offlinerlkit_romi.experiment.memory import free_bytes
from offlinerlkit_romi.experiment.own_data import (
    check_task,
    load_own_data,
    take_objects,
    task_of,
)
from offlinerlkit_romi.experiment.pretrain import pretrain
from offlinerlkit_romi.experiment.resolve import CALL, Resolved, check_seeds, settle
from offlinerlkit_romi.experiment.resume import (
    Earlier,
    check_data,
    find_earlier,
    run_lock,
    same_arithmetic,
    starting_point,
)
from offlinerlkit_romi.experiment.session import Session
from offlinerlkit_romi.experiment.summary import SUMMARY_FILE, Summary, source_label, summarize
from offlinerlkit_romi.policy_trainer import (
    Checkpoints,
    Interrupts,
    MBPolicyTrainer,
    MFPolicyTrainer,
    PolicyTrainer,
    SnapshotScorer,
)
from offlinerlkit_romi.utils.logger import Logger, make_log_dirs
from offlinerlkit_romi.utils.plotter import plot_learning_curve

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.seeds import SeedsSummary

OUTPUTS = {
    "consoleout_backup": "stdout",
    "policy_training_progress": "csv",
    "dynamics_training_progress": "csv",
    "tb": "tensorboard",
}
SCALER_FOLDER = "policy_scaler"


@dataclass(frozen=True)
class Ground:
    """What runs side by side share.

    Attributes:
        dataset: Transitions; never written to.
        device: Where everything lives.
        argv: The command line, for the record.
        start: When the process began with them, by `time.perf_counter`.
    """

    dataset: Dataset
    device: torch.device
    argv: list[str]
    start: float


@overload
def train(algo: str, *, seeds: Sequence[int], **values: Any) -> SeedsSummary: ...


@overload
def train(algo: str, *, seeds: None = None, **values: Any) -> Summary: ...


def train(
    algo: str, *, seeds: Sequence[int] | None = None, **values: Any
) -> Summary | SeedsSummary:
    """Train a policy.

    Args:
        algo: One of `ALGORITHMS`, such as "romi".
        seeds: Train one run per seed, side by side; the result then holds them all.
        **values: Any setting of the algorithm, by the name `offlinerlkit-romi train <algo> --help`
            shows; `task`, `preset`, `data`, `seed` and `device` among them.

    Returns:
        Scores, times and the run's folder.

    Raises:
        UserError: A setting is wrong, the data cannot be had, or training diverged (of several
            seeds, one that diverged is told in the result).
        TrainingInterrupted: SIGTERM or Ctrl-C; the state is saved, `resume=` goes on.
    """
    values, dataset = take_objects(values)
    start = starting_point(algo, values)
    if start is None:
        resolved = settle(algo, values)
    else:
        resolved = start.override(values, CALL)
        validate(resolved.config)
    if seeds is None:
        return run(resolved, dataset=dataset)
    from offlinerlkit_romi.experiment.seeds import run_seeds  # builds on this module

    return run_seeds(resolved, check_seeds(seeds, values), dataset=dataset, source=CALL)


def run(
    resolved: Resolved, argv: Sequence[str] | None = None, *, dataset: Dataset | None = None
) -> Summary:
    """Carry out a resolved configuration.

    Args:
        resolved: The configuration.
        argv: The command line, for the record.
        dataset: The transitions, where the configuration alone cannot say which.
    """
    start = time.perf_counter()
    device = check_input(resolved.config, dataset)
    earlier = find_earlier(resolved)
    settle_arithmetic(resolved.config, earlier, device)
    dataset = obtain_data(resolved.config, earlier, dataset)
    words = list(sys.argv if argv is None else argv)
    return carry_out(resolved, earlier, Ground(dataset, device, words, start), Interrupts())


def check_input(config: RunConfig, dataset: Dataset | None) -> torch.device:
    """Find what is wrong before anything is read or made; returns the device.

    Raises:
        UserError: It is.
    """
    if dataset is None and not is_own(config.data, config.task) and config.data != MEMORY:
        get_task(config.task)
    device = resolve_device(config.device)
    _check_paths(config)
    return device


def settle_arithmetic(config: RunConfig, earlier: Earlier | None, device: torch.device) -> None:
    """Set threads and kernels of this process, for a resumed run as they were."""
    if config.threads:
        torch.set_num_threads(config.threads)
    choose_matmul_precision(config.matmul_precision, device)
    keep_freed_memory()
    if earlier is not None:
        same_arithmetic(earlier)


def obtain_data(config: RunConfig, earlier: Earlier | None, dataset: Dataset | None) -> Dataset:
    """Load the transitions, unless they are given, and check them.

    Raises:
        UserError: They cannot be had, or are not those the run began on.
    """
    if dataset is None:
        dataset = load_own_data(config, None if earlier is None else earlier.manifest["data"])
    if dataset is None:
        dataset = load(
            config.task, config.data, transitions=config.transitions, seed=config.data_seed
        )
    if earlier is not None:
        check_data(earlier, dataset)
    check_task(config, task_of(dataset))
    if config.doctor and earlier is None:
        dataset = examined(dataset, task_of(dataset))
    return dataset


def carry_out(
    resolved: Resolved,
    earlier: Earlier | None,
    ground: Ground,
    interrupts: Interrupts,
    *,
    label: str = "",
    row: int | None = None,
) -> Summary:
    """Train and leave everything in the run's folder.

    Args:
        resolved: The configuration.
        earlier: The run to go on with.
        ground: What the process has in store.
        interrupts: Tells of signals.
        label: Put before every line on the console.
        row: The terminal row of the progress bar.
    """
    logger = _open_logger(resolved, ground.dataset, earlier, label, row)
    try:
        with run_lock(logger.dir), interrupts:
            if earlier is None:
                _write_papers(resolved, ground, logger)
            session = Session(
                resolved,
                earlier,
                ground.dataset,
                ground.device,
                logger,
                interrupts,
                ground.argv,
                ground.start,
            )
            trainer = _trainer(session)
            trainer.train()
            return _close(session, trainer)
    except TrainingInterrupted as stop:
        message = f"{stop}; go on with: train {resolved.algo} --resume '{logger.dir}'"
        logger.log(message)
        raise TrainingInterrupted(message) from None
    except KeyboardInterrupt:
        logger.log(f"interrupted; what there is lies in {logger.dir}")
        raise
    finally:
        logger.close()


def _write_papers(resolved: Resolved, ground: Ground, logger: Logger) -> None:
    manifest = make_manifest(resolved, ground.dataset, ground.device, ground.argv)
    write_json(Path(logger.record_dir) / "manifest.json", manifest)
    write_json(Path(logger.record_dir) / "config.json", describe_config(resolved))
    logger.log_hyperparameters({"algo": resolved.algo, **as_dict(resolved.config)})


def _record_fit(path: Path, used: Used | None) -> None:
    """Note in the manifest which fit of the dynamics model the run starts from."""
    manifest = json.loads(path.read_text("utf-8"))
    write_json(path, manifest | {"dynamics_fit": None if used is None else asdict(used)})


def resolve_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or cuda:N into a device that is there.

    Raises:
        UserError: No such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"--device {name}: this machine offers {count} CUDA devices; use --device cpu"
        )
    return device


def _open_logger(
    resolved: Resolved, dataset: Dataset, earlier: Earlier | None, label: str, row: int | None
) -> Logger:
    config = resolved.config
    console: dict[str, Any] = {"console_tables": False, "label": label, "row": row}
    if earlier is not None:
        return Logger(str(earlier.folder), OUTPUTS, resume=True, **console)
    folder = make_log_dirs(
        config.task,
        config.algo_name or resolved.algo,
        config.seed,
        {"data": dataset.info.source},
        ["data"],
        root=config.log_root,
    )
    return Logger(folder, OUTPUTS, **console)


def _trainer(session: Session) -> PolicyTrainer:
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
        folder = Path(logger.model_dir) / SCALER_FOLDER
        folder.mkdir(exist_ok=True)
        setting.obs_scaler.save_scaler(str(folder))
    policy = build_policy(config, setting)
    logger.log(str(memory_plan(config, setting, buffers, policy, free)))
    engine = make_engine(config.engine, session.device, logger.log)
    for part in (policy, getattr(policy, "dynamics", policy)):
        if hasattr(part, "engine"):
            part.engine = engine
    if isinstance(config, ModelBasedConfig) and not resuming:
        used = pretrain(
            policy, buffers.real, buffers.for_model.rows, config, logger, session.interrupts.check
        )
        _record_fit(Path(logger.record_dir) / "manifest.json", used)
    scorer = make_evaluation(config, setting, session.task, logger.log)
    estimator = make_estimator(
        config,
        setting,
        session.dataset,
        session.task,
        policy,
        Path(logger.model_dir),
        logger.log,
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

    def diagnose() -> dict[str, Any]:
        """Once per epoch: the model's error, and estimates where they are due."""
        found: dict[str, Any] = {}
        if buffers.model is not None:
            found |= buffers.model.prediction_error(policy.dynamics)
        epoch = trainer.state_dict()["epochs"] + 1
        return found | (estimator(policy, epoch) if estimator.due(epoch) else {})

    trainer: PolicyTrainer
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
    if not isinstance(config, ModelBasedConfig):
        trainer = MFPolicyTrainer(policy, scorer, buffers.real, logger, **shared)
        return trainer
    model = buffers.for_model
    trainer = MBPolicyTrainer(
        policy,
        scorer,
        buffers.real,
        model.fake,
        logger,
        (config.rollout_freq, config.rollout_batch_size, config.rollout_length),
        real_ratio=config.real_ratio,
        dynamics_update_freq=getattr(config, "dynamics_update_freq", 0),
        model_buffer=model.rows,
        updates_per_round=getattr(config, "adv_train_steps", 1),
        **shared,
    )
    return trainer


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


def _close(session: Session, trainer: PolicyTrainer) -> Summary:
    """Write and show what came out."""
    resolved, logger = session.resolved, session.logger
    config, info, results = resolved.config, session.dataset.info, Path(logger.result_dir)
    estimates = read_estimates(Path(logger.record_dir) / "policy_training_progress.csv")
    summary = summarize(
        trainer.history,
        trainer.timer.totals(),
        run_dir=logger.dir,
        algo=resolved.algo,
        task=config.task,
        data_source=info.source,
        seed=config.seed,
        steps=config.epoch * config.step_per_epoch,
        score_behaviour=float(normalized_score(info.behaviour_return, session.task)),
        return_behaviour=info.behaviour_return,
        estimates=estimates[-1][1] if estimates else {},
        wall_seconds=session.clock.seconds(),
    )
    summary.write(Path(logger.dir) / SUMMARY_FILE)
    if trainer.checkpoints is not None:  # a run without its summary is unfinished: not before it
        trainer.checkpoints.finished(
            summary.steps, trainer.state_parts() if trainer.sound else None
        )
    logger.log(summary.table())
    if trainer.history:
        steps, scores = zip(*trainer.history, strict=True)
        plot_learning_curve(
            results / "learning_curve.png",
            steps,
            [score.mean for score in scores],
            [score.std for score in scores],
            title=summary.title(),
            reference=summary.returns.get("behaviour", summary.score_behaviour),
            reference_label=f"the data's own {scores[-1].scale}",
            **({} if scores[-1].scale == "score" else {"y_label": "return (undiscounted)"}),
        )
        logger.log(f"learning curve: {results / 'learning_curve.png'}")
    elif len(estimates) > 1:
        _plot_estimates(results / "estimates.png", estimates, summary)
        logger.log(f"estimates: {results / 'estimates.png'}")
    logger.log(f"summary: {results / 'summary.json'}")
    return summary


def _plot_estimates(
    path: Path, estimates: list[tuple[int, dict[str, float]]], summary: Summary
) -> None:
    """Draw the estimate that was made at every point: FQE's, else the model's."""
    name = FQE if all(FQE in values for _, values in estimates) else MODEL
    points = [(step, values[name]) for step, values in estimates if name in values]
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


def _check_paths(config: RunConfig) -> None:
    """Find a wrong path before a run folder exists."""
    files = {"load_dynamics_path": "dynamics.pth", "load_bc_path": "rambo_pretrain.pth"}
    for name, file in files.items():
        folder = getattr(config, name, None)
        if folder is not None and not (Path(folder) / file).is_file():
            raise UserError(
                f"--{name.replace('_', '-')} {folder}: no {file} there; "
                "give the model folder of an earlier run"
            )
    if isinstance(config, ModelBasedConfig):
        check_cache(config)
