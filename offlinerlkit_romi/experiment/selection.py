"""Choosing among a run's checkpoints from its data alone, and how well that ranks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine.device import resolve_device
from offlinerlkit_romi.envs import EvalSettings, Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.estimates import (
    FOLDER,
    FQE,
    MODEL,
    OWN_MODEL,
    TITLES,
    Estimator,
    independent_model,
    wanted_estimates,
)
from offlinerlkit_romi.experiment.folder import SELECTION, RunFolder, estimates_of
from offlinerlkit_romi.experiment.lifecycle import obtain_data
from offlinerlkit_romi.experiment.reload import OwnRun
from offlinerlkit_romi.experiment.summary import title_of
from offlinerlkit_romi.experiment.user_data import source_of, task_of
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS, task_scorer
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.utils.logger import Logger
from offlinerlkit_romi.utils.text import aligned, number

FEWEST = 3  # pairs that a rank correlation is told of


@dataclass(frozen=True)
class Candidate:
    """A kept checkpoint.

    Attributes:
        step: Policy steps.
        weights: Its file.
        estimate: What it is worth by the data, discounted; NaN where the estimate did not settle.
        spread: Among the fits, or among the starts.
        score: What the simulator says; NaN without one.
    """

    step: int
    weights: str
    estimate: float
    spread: float
    score: float


@dataclass(frozen=True)
class Selection:
    """What was chosen among a run's checkpoints.

    Attributes:
        run_dir: The run's folder.
        algo: Algorithm.
        task: Task.
        seed: The run's seed.
        data_source: Where its data came from.
        by: The estimate: "fqe" or "model".
        candidates: The checkpoints, oldest first.
        chosen: Policy steps of the one with the highest estimate.
        rank_correlation: Spearman's, of estimate and score; NaN where fewer than three checkpoints
            have both.
    """

    run_dir: str
    algo: str
    task: str
    seed: int
    data_source: str
    by: str
    candidates: list[Candidate]
    chosen: int
    rank_correlation: float

    def table(self) -> str:
        """The result for people."""
        rows = [
            [
                f"{'>' if found.step == self.chosen else ' '} {found.step:,}",
                f"{number(found.estimate, '.4g')} ± {number(found.spread, '.2g')}",
                number(found.score, ".1f"),
            ]
            for found in self.candidates
        ]
        (path,) = [found.weights for found in self.candidates if found.step == self.chosen]
        return "\n".join(
            [
                title_of(self.algo, self.task, self.data_source, self.seed),
                f"by {TITLES[self.by]}: an estimate of the discounted return, not a score",
                aligned([["  step", self.by, "score"], *rows]),
                f"rank correlation of estimate and score: {number(self.rank_correlation)}",
                f"chosen: {path}",
            ]
        )


def select(
    run_dir: str | Path, by: str = "fqe", *, episodes: int = 10, device: str = "auto"
) -> Selection:
    """Choose among a run's kept checkpoints by an estimate, and keep the outcome in its folder.

    All are judged by the same rows, fits and starts. The scores, where there are some, have no part
    in the choice.

    Args:
        run_dir: Its folder.
        by: "fqe", or "model", which is fitted where the run has kept none.
        episodes: Of a checkpoint that the run did not score itself; 0 for none.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: No such run, fewer than two checkpoints, or no estimate that is a number.
    """
    folder, place = RunFolder(run_dir), resolve_device(device)
    config, kept = folder.resolved.config, folder.kept()
    if len(kept) < 2:
        raise UserError(
            f"{run_dir} has kept {len(kept)} checkpoints: train with --keep-checkpoints 10"
        )
    if episodes < 0:
        raise UserError(f"--episodes is {episodes}: give 0 or more")
    dataset = obtain_data(config, source_of(config), folder)
    if reason := dataset.untold():
        raise UserError(f"no estimate of {run_dir}: {reason}")
    estimator = _estimator(folder, dataset, by, place)
    score = _scores(folder, task_of(dataset), episodes)
    found = []
    for step, weights in kept.items():
        policy = OwnRun(folder, weights).load(place)
        told = estimates_of(estimator(policy, 0))  # the same draws for all
        value, spread = (told.get(name, math.nan) for name in (by, f"{by}_std"))
        found.append(Candidate(step, str(weights), value, spread, score(step, policy)))
    return _note(folder, by, found)


def _note(folder: RunFolder, by: str, found: list[Candidate]) -> Selection:
    """Choose, and write it down."""
    known = [candidate for candidate in found if not math.isnan(candidate.estimate)]
    if not known:
        raise UserError(
            f"no checkpoint of {folder.path} has a finite estimate by {by}: its fits did not "
            f"settle; try --by {FQE if by == MODEL else MODEL}"
        )
    selection = Selection(
        run_dir=str(folder.path),
        algo=folder.resolved.algo,
        task=folder.resolved.config.task,
        seed=folder.resolved.config.seed,
        data_source=folder.manifest["data"]["source"],
        by=by,
        candidates=found,
        chosen=max(known, key=lambda candidate: candidate.estimate).step,
        rank_correlation=rank_correlation([(x.estimate, x.score) for x in found]),
    )
    write_json(folder.path / SELECTION.format(by=by), asdict(selection))
    return selection


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN with fewer than three pairs."""
    known = pd.DataFrame(pairs).dropna()
    if len(known) < FEWEST or (known.nunique() == 1).any():
        return math.nan
    first, second = (known[column].rank() for column in known)
    return float(first.corr(second))


def _estimator(folder: RunFolder, dataset: Dataset, by: str, device: torch.device) -> Estimator:
    """By the model that the run has kept, else by one of its own, which is kept there."""
    config, setting = folder.resolved.config, OwnRun(folder).setting(device)
    logger = Logger(str(folder.path), {}, resume=True, console_tables=False)
    there = (Path(logger.model_dir) / FOLDER / "dynamics.pth").is_file()
    run_kept = there and MODEL in wanted_estimates(config, task_of(dataset))
    of = config if run_kept else RunConfig(task=config.task, seed=config.seed)
    model = None
    if by == MODEL:
        model = independent_model(
            of, setting, dataset, None, logger, lambda: None, fitted=not there
        )
    reward_map = (of.model or OWN_MODEL).reward_map
    scaler = setting.obs_scaler
    return Estimator(config, dataset, scaler, (by,), model, reward_map, device, logger)


def _scores(folder: RunFolder, task: Task, episodes: int) -> Callable[[int, Any], float]:
    """The score of a step's policy: the run's own, else from fresh episodes; NaN without any."""
    told = {
        int(row["timestep"]): row[name]
        for row in folder.rows()
        for name in SCORE_COLUMNS.values()  # a run has one of them
        if name in row
    }

    def score(step: int, policy: Any) -> float:
        if step in told or not (episodes and task.env_id):
            return told.get(step, math.nan)
        return task_scorer(task, EvalSettings(episodes))(policy).mean  # the same episodes for all

    return score
