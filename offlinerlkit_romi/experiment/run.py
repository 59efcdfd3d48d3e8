"""One run from a task's name to a folder with a trained policy, its scores and its papers."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch

from offlinerlkit_romi.data import Dataset, load
from offlinerlkit_romi.data.doctor.before_training import examined
from offlinerlkit_romi.data.user import MEMORY
from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment.assemble import assemble
from offlinerlkit_romi.experiment.closing import close
from offlinerlkit_romi.experiment.config import RunConfig, as_dict, validate
from offlinerlkit_romi.experiment.folder import MODEL_ROWS, OUTPUTS, RunFolder
from offlinerlkit_romi.experiment.input_checks import check_input
from offlinerlkit_romi.experiment.memory import told_if_short
from offlinerlkit_romi.experiment.own_data import check_task, load_own_data, take_objects, task_of
from offlinerlkit_romi.experiment.resolve import CALL, Resolved, check_seeds, settle
from offlinerlkit_romi.experiment.resume import (
    check_data,
    find_earlier,
    same_arithmetic,
    starting_point,
)
from offlinerlkit_romi.experiment.rewards import check_episodes
from offlinerlkit_romi.experiment.session import Session
from offlinerlkit_romi.experiment.summary import Summary
from offlinerlkit_romi.policy_trainer import Interrupts
from offlinerlkit_romi.utils.logger import BACKUP, Logger, make_log_dirs

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.seeds import SeedsSummary


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


def settle_arithmetic(config: RunConfig, earlier: RunFolder | None, device: torch.device) -> None:
    """Set threads and kernels of this process, for a resumed run as they were."""
    if config.threads:
        torch.set_num_threads(config.threads)
    choose_matmul_precision(config.matmul_precision, device)
    keep_freed_memory()
    if earlier is not None:
        same_arithmetic(earlier)


def obtain_data(config: RunConfig, earlier: RunFolder | None, dataset: Dataset | None) -> Dataset:
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
    check_episodes(config, dataset)
    return dataset


def carry_out(
    resolved: Resolved,
    earlier: RunFolder | None,
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
        folder = earlier or RunFolder(logger.dir)
        with folder.lock(), interrupts, told_if_short():
            if earlier is None:
                folder.begin(resolved, ground.dataset, ground.device, ground.argv)
                logger.log_hyperparameters({"algo": resolved.algo, **as_dict(resolved.config)})
            session = Session(
                resolved,
                earlier,
                folder,
                ground.dataset,
                ground.device,
                logger,
                interrupts,
                ground.argv,
                ground.start,
            )
            trainer = assemble(session)
            trainer.train()
            return close(session, trainer)
    except TrainingInterrupted as stop:
        message = f"{stop}; go on with: {_resume_command(resolved, logger.dir)}"
        # on the console who called tells it, for all runs there are
        logger.log(str(stop)) if label else logger.log(message, BACKUP)
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
    return shlex.join(["offlinerlkit-romi", "train", resolved.algo, "--resume", folder])


def _outputs(config: RunConfig) -> dict[str, str]:
    """File name under `record/` to kind."""
    return {name: kind for name, kind in OUTPUTS.items() if config.model or name != MODEL_ROWS}


def _open_logger(
    resolved: Resolved, dataset: Dataset, earlier: RunFolder | None, label: str, row: int | None
) -> Logger:
    config = resolved.config
    console: dict[str, Any] = {"console_tables": False, "label": label, "row": row}
    if earlier is not None:
        return Logger(str(earlier.path), _outputs(config), resume=True, **console)
    folder = make_log_dirs(
        config.task,
        config.algo_name or resolved.algo,
        config.seed,
        {"data": dataset.info.source},
        ["data"],
        root=config.log_root,
    )
    return Logger(folder, _outputs(config), **console)
