"""How a run evaluates its policy: a twin of it on the CPU, in a worker or in the run's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.envs import EvalSettings, Task
from offlinerlkit_romi.envs.functions import travels
from offlinerlkit_romi.envs.shifts import name_of, needs_critics, parse
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.policy_trainer.evaluation import Scorer, Scores, task_scorer
from offlinerlkit_romi.policy_trainer.snapshots import SnapshotScorer, Weights, acts
from offlinerlkit_romi.system.machine import usable_cores
from offlinerlkit_romi.utils.scaler import StandardScaler

# evaluation episodes must not repeat the seeds that generated data uses
SEED_OFFSET = 1_000_000
CPU = torch.device("cpu")
CORES_FOR_TRAINING = 2


@dataclass(frozen=True)
class TwinRecipe:
    """What a run's evaluations depend on, the weights and their number apart.

    Attributes:
        config: The run's configuration.
        task: What is played.
        obs_dim: S.
        action_dim: A.
        mean: Of the observations (1, S), where the policy standardises them.
        std: Likewise.
        precision: torch's float32 matmul precision.
        obs_std: Of the data's raw observations (S,), where the evaluations' shifts count it.
    """

    config: RunConfig
    task: Task
    obs_dim: int
    action_dim: int
    mean: NDArray[Any] | None
    std: NDArray[Any] | None
    precision: str
    obs_std: NDArray[np.float64] | None = None

    def judge(self) -> TwinJudge:
        """Build the twin and its episodes."""
        torch.set_float32_matmul_precision(self.precision)
        scaler = None if self.mean is None else StandardScaler(mu=self.mean, std=self.std)
        generators = Generators(self.config.seed, CPU)
        setting = Setting(self.obs_dim, self.action_dim, CPU, generators, scaler, self.task)
        twin = build_policy(self.config, setting)
        settings = EvalSettings(
            self.config.eval_episodes, SEED_OFFSET + self.config.seed, obs_std=self.obs_std
        )
        return TwinJudge(twin, task_scorer(self.task, settings), self.config.eval_shift)


class TwinJudge:
    """Scores of given weights; calls do not depend on each other."""

    def __init__(self, twin: Any, scorer: Scorer, shifts: Sequence[str] = ()) -> None:
        self._twin, self._scorer, self._shifts = twin, scorer, shifts

    def __call__(self, number: int, weights: Weights) -> Scores:
        """Evaluate on the episodes of call `number`, counted from 0."""
        # a tensor owns what it is made from; a pickle's arrays may be read-only
        tensors = {name: torch.tensor(np.asarray(x)) for name, x in weights.items()}
        missing = self._twin.load_state_dict(tensors, strict=False).missing_keys
        assert not [name for name in missing if acts(self._twin, name)], missing
        evaluator: Any = self._scorer.evaluator
        evaluator.load_state_dict({"calls": number})
        worlds = {name_of(parse(shift)): evaluator.under(shift) for shift in self._shifts}
        scores = self._scorer(self._twin)
        shifted = {name: self._scorer.of(play(self._twin)) for name, play in worlds.items()}
        return replace(scores, shifted={name: found.mean for name, found in shifted.items()})


def make_evaluation(
    config: RunConfig,
    setting: Setting,
    task: Task,
    tell: Callable[[str], None],
    obs_std: NDArray[np.float64] | None = None,
) -> SnapshotScorer:
    """What evaluates the run's policy; `obs_std` (S,) is for shifts that count it."""
    scaler = setting.obs_scaler
    recipe = TwinRecipe(
        config,
        task,
        setting.obs_dim,
        setting.action_dim,
        None if scaler is None else scaler.mu,
        None if scaler is None else scaler.std,
        torch.get_float32_matmul_precision(),
        obs_std,
    )
    in_worker = evaluates_in_worker(config, task, setting.device)
    if config.eval_async and not in_worker:
        tell("evaluation in the training process: what is yours cannot be sent to another")
    critics = any(needs_critics(parse(shift)) for shift in config.eval_shift)
    return SnapshotScorer(recipe, tell, in_worker=in_worker, critics=critics)


def evaluates_in_worker(config: RunConfig, task: Task, device: torch.device) -> bool:
    """What `--eval-async` says, or what suits the machine: is there a core to spare?"""
    # Python objects of the caller's: names can travel
    if getattr(task, "functions", ()) or not travels(type(config)):
        return False
    if config.eval_async is not None:
        return config.eval_async
    return device.type == "cuda" or usable_cores() > CORES_FOR_TRAINING
