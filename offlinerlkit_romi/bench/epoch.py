"""Whole epochs of the model-based algorithms, shortened."""

from __future__ import annotations

import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any

from offlinerlkit_romi.bench.measure import Work
from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer
from offlinerlkit_romi.utils.logger import Logger

# the paper's epoch
STEPS, ROLLOUTS, ROLLOUT_ROWS = 1000, 4, 50_000


def epoch(workload: Workload, algo: str, label: str) -> Work:
    """An epoch by the real trainer, each of its parts cut to the same share; evaluation left out.

    Its units are policy steps: milliseconds per step of a whole epoch.
    """
    steps = ROLLOUTS * max(1, round(workload.epoch_share * STEPS / ROLLOUTS))
    rows = round(ROLLOUT_ROWS * steps / STEPS)
    short = {"adv_train_steps": steps, "rollout_freq": steps // ROLLOUTS}
    short |= {"step_per_epoch": steps, "dynamics_update_freq": steps}
    sizes = replace(workload, rollout_rows=rows, overrides={**workload.overrides, **short})
    policy, buffers, config = OurPieces(sizes, label).made(algo)
    settings: dict[str, Any] = {
        "epoch": 1,
        "step_per_epoch": steps,
        "batch_size": config.batch_size,
        "real_ratio": config.real_ratio,
        "eval_episodes": 0,
        "dynamics_update_freq": steps,
        "updates_per_round": steps,
    }
    model = buffers.for_model

    def run() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            logger = Logger(os.path.join(folder, "run"), {}, console_tables=False)
            rollout = steps // ROLLOUTS, rows, config.rollout_length
            MBPolicyTrainer(
                policy, None, buffers.real, model.fake, logger, rollout, **settings
            ).train()

    return Work(label, run, steps, "eager", workload.precision)


def estimate(policy_step: float, model_update: float, rollout: float, rollout_rows: int) -> float:
    """Milliseconds per step of a whole epoch from those of its pieces."""
    return policy_step + model_update + ROLLOUTS / STEPS * rollout * ROLLOUT_ROWS / rollout_rows
