"""Whole epochs of the model-based algorithms, shortened."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from offlinerlkit_romi.bench.engines import WARM_UPS, label_of
from offlinerlkit_romi.bench.measure import Work
from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.engine import make_engine
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer, Sentinel
from offlinerlkit_romi.utils.logger import Logger

# the paper's epoch
STEPS, ROLLOUTS, ROLLOUT_ROWS = 1000, 4, 50_000


def steps_of(share: float) -> int:
    """Policy steps of a shortened epoch: as many between two rollouts, each time."""
    return ROLLOUTS * max(1, round(share * STEPS / ROLLOUTS))


def epoch(workload: Workload, algo: str, folder: Path, mode: str = "eager") -> Work:
    """An epoch by the real trainer, each of its parts cut to the same share; evaluation left out.

    Its units are policy steps: milliseconds per step of a whole epoch. What it waits for once per
    epoch, to read the metrics and to save the weights, is in it whole.

    Args:
        workload: The sizes; `epoch_share` of an epoch is run.
        algo: With an adversary.
        folder: Where a run folder may lie.
        mode: The engine that carries out the steps.
    """
    steps = steps_of(workload.epoch_share)
    rows = round(ROLLOUT_ROWS * steps / STEPS)
    short = {"adv_train_steps": steps, "rollout_freq": steps // ROLLOUTS}
    short |= {"step_per_epoch": steps, "dynamics_update_freq": steps}
    sizes = replace(workload, rollout_rows=rows, overrides={**workload.overrides, **short})
    told: list[str] = []
    logger = Logger(str(folder / f"{algo} {mode}"), {}, console_tables=False)
    trainer = _trainer(sizes, algo, mode, logger, told)
    start = trainer.state_dict()

    def run() -> None:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            trainer.train()
        trainer.load_state_dict(start)  # weights, buffers and graphs go on as they are

    return Work(
        label_of(mode),
        run,
        steps,
        mode,
        workload.precision,
        slow=True,
        algo=algo,
        warm_ups=WARM_UPS[mode],
        told=told,
    )


class _Epochs(MBPolicyTrainer):
    """A trainer that only ever comes to the end of an epoch."""

    def _save_final(self) -> None:
        """Once per run, not per epoch."""


class _Watching(Sentinel):
    """A sentinel for several calls of `train`."""

    def close(self) -> None:
        """Not yet."""


def _trainer(sizes: Workload, algo: str, mode: str, logger: Logger, told: list[str]) -> _Epochs:
    policy, buffers, config = OurPieces(sizes).made(algo)
    engine = make_engine(mode, sizes.device, told.append)
    policy.engine = engine
    settings: dict[str, Any] = {
        "epoch": 1,
        "step_per_epoch": config.step_per_epoch,
        "batch_size": config.batch_size,
        "real_ratio": config.real_ratio,
        "eval_episodes": 0,
        "dynamics_update_freq": config.dynamics_update_freq,
        "updates_per_round": config.adv_train_steps,
        "model_buffer": buffers.for_model.rows,
        "close_logger": False,
        "sentinel": _Watching(policy.training_state()),
        "engine": engine,
    }
    rollout = config.rollout_freq, config.rollout_batch_size, config.rollout_length
    return _Epochs(policy, None, buffers.real, buffers.for_model.fake, logger, rollout, **settings)


def estimate(policy_step: float, model_update: float, rollout: float, rollout_rows: int) -> float:
    """Milliseconds per step of a whole epoch from those of its pieces."""
    return policy_step + model_update + ROLLOUTS / STEPS * rollout * ROLLOUT_ROWS / rollout_rows
