"""A finished or interrupted run, read back: its policy, and what that policy is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.data import load
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.engine.device import resolve_device
from offlinerlkit_romi.envs import EvalSettings, Evaluator, Task, get_task, normalized_score
from offlinerlkit_romi.envs.custom import CustomTask, InUserUnits
from offlinerlkit_romi.envs.functions import Function, name_of
from offlinerlkit_romi.envs.shifts import CLEAN, needs_critics, needs_std, parse
from offlinerlkit_romi.errors import UserError, shown
from offlinerlkit_romi.experiment.build import Setting
from offlinerlkit_romi.experiment.folder import (
    MANIFEST,
    MODEL,
    ROBUSTNESS,
    ROBUSTNESS_FIGURE,
    SCALER,
    RunFolder,
    obs_std,
)
from offlinerlkit_romi.experiment.kit_runs import (
    UNKNOWN,
    KitRun,
    find_kit_run,
    is_kit_style,
    obs_statistics,
    read_policy,
)
from offlinerlkit_romi.experiment.lifecycle import obtain_data
from offlinerlkit_romi.experiment.robustness import (
    EPISODES,
    OWN,
    Outcome,
    Outcomes,
    block_cells,
    blocks_of,
    condition_cells,
    conditions_of,
    draw,
    keep_outcome,
    play,
)
from offlinerlkit_romi.experiment.summary import source_label
from offlinerlkit_romi.experiment.user_data import source_of
from offlinerlkit_romi.policy_trainer.evaluation import score_scale
from offlinerlkit_romi.system.files import file_digest
from offlinerlkit_romi.utils.scaler import StandardScaler
from offlinerlkit_romi.utils.text import aligned


@dataclass(frozen=True)
class Evaluation:
    """Scores of a stored policy, normalised (0 random, 100 expert).

    Attributes:
        run_dir: The run's folder.
        algo: Algorithm.
        task: Task.
        data_source: Where the training data came from.
        weights: The file the weights were read from.
        episodes: Number of episodes.
        seed: Base of their seeds.
        score: Mean score.
        score_std: Spread over the episodes.
        episode_length: Mean number of steps.
        score_behaviour: Score of the data's own episodes.
        scale: "score", or "return" where the task has no score scale: `score`, `score_std` and
            `score_behaviour` are then undiscounted returns.
        outcomes: Under each condition that was asked for, clean first; empty where none was.
    """

    run_dir: str
    algo: str
    task: str
    data_source: str
    weights: str
    episodes: int
    seed: int
    score: float
    score_std: float
    episode_length: float
    score_behaviour: float
    scale: str = "score"
    outcomes: Outcomes = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the attributes' names."""
        return asdict(self)

    @property
    def title(self) -> str:
        """Algorithm, task and data, so that no number is taken for another benchmark's."""
        known = self.data_source != UNKNOWN
        source = source_label(self.data_source, self.task) if known else "unknown data"
        return f"{self.algo} on {self.task}, {source}"

    def table(self) -> str:
        """The result for people."""
        lines = [
            self.title,
            f"  {self.scale} {self.score:.2f} ± {self.score_std:.2f} over {self.episodes} episodes "
            f"of {self.episode_length:.0f} steps on average (seed {self.seed})",
        ]
        if not math.isnan(self.score_behaviour):
            lines.append(f"  the data's own {self.scale} {self.score_behaviour:.2f}")
        lines.append(f"  weights {self.weights}")
        if self.outcomes:  # a line per condition, then one per block
            blocks = block_cells(blocks_of({self.algo: [self.outcomes]}))
            tables = condition_cells(self.outcomes.values()), blocks
            lines += [f"\n{aligned(cells)}" for cells in tables]
        return "\n".join(lines)


@dataclass(frozen=True)
class OwnRun:
    """A run of `offlinerlkit-romi train`, which tells everything about itself.

    Attributes:
        folder: Its folder.
        chosen: Weights that it kept beside the final ones; None for those.
    """

    folder: RunFolder
    chosen: Path | None = None

    @property
    def algo(self) -> str:
        """Its algorithm."""
        return self.folder.resolved.algo

    @property
    def task(self) -> str:
        """Its task's name."""
        return self.folder.resolved.config.task

    @property
    def facts(self) -> Task | str:
        """Its task; a benchmark's by its name."""
        return self.folder.task

    @property
    def data(self) -> tuple[str, float]:
        """Source of its data, and their mean return, NaN where unknown."""
        behaviour = self._noted("behaviour_return", float | int | None)
        return self._noted("source", str), math.nan if behaviour is None else float(behaviour)

    @property
    def weights(self) -> Path:
        """The file of its policy's weights."""
        return self.chosen or self.folder.weights

    def obs_std(self) -> NDArray[np.float64]:
        """Of the raw observations it was trained on, (S,)."""
        told = self.folder.manifest["data"].get("obs_std")
        if told is None:  # a run from before it was noted
            config = self.folder.resolved.config
            return obs_std(obtain_data(config, source_of(config), self.folder))
        return np.array(told, np.float64)

    def load(self, device: torch.device, obs_scaler: StandardScaler | None = None) -> Any:
        """Rebuild the policy, and its dynamics model where one was saved."""
        setting = self.setting(device, obs_scaler)
        config = self.folder.resolved.config
        return read_policy(config, setting, self.weights, self.folder.path / MODEL)

    def setting(self, device: torch.device, obs_scaler: StandardScaler | None = None) -> Setting:
        """What the policy is built for."""
        config, goal = self.folder.resolved.config, self.folder.manifest["data"].get("goal")
        scaler = obs_scaler or _read_scaler(self.folder.path / SCALER)
        if config.standardises and scaler is None:
            raise UserError(
                f"{self.folder.path / SCALER} is missing: {self.algo} acts on standardised "
                "observations, restore it or train the run again"
            )
        return Setting(
            self._noted("obs_dim", int),
            self._noted("action_dim", int),
            device,
            Generators(config.seed, device),
            scaler,
            self.facts if isinstance(self.facts, Task) else None,
            None if goal is None else (float(goal[0]), float(goal[1])),
        )

    def _noted(self, name: str, kind: Any) -> Any:
        """What the manifest says of the data.

        Raises:
            UserError: Nothing, or nothing of that kind.
        """
        data = self.folder.manifest["data"]
        if name not in data or not isinstance(data[name], kind):
            raise UserError(
                f"{self.folder.path / MANIFEST} is damaged: its data's {name} is "
                f"{shown(data.get(name))}"
            )
        return data[name]


def load_policy(
    run_dir: str | Path,
    device: str = "auto",
    *,
    algo: str | None = None,
    task: str | None = None,
    obs_scaler: StandardScaler | None = None,
) -> Any:
    """Rebuild a run's policy with its weights, and its dynamics model where one was saved.

    Args:
        run_dir: A run's folder: ours, OfflineRL-Kit's, or of a script in its style; or a file of
            weights in one, such as a kept checkpoint or the last two's `policy.pth`.
        device: auto, cpu, cuda or cuda:N.
        algo: Algorithm, where a kit-style run does not tell.
        task: Task, likewise.
        obs_scaler: Mean and std of the observations that a kit-style run of an algorithm that
            standardises them (TD3+BC, RAMBO) was trained on: such a run does not keep them.

    Returns:
        The policy in evaluation mode: `select_action(obs, deterministic=True)` takes raw
        observations (n, S) or one (S,), and acts in the units of the user's own data.

    Raises:
        UserError: The folder is not a run's, or holds no policy yet; its weights are of another
            algorithm; or a kit-style run must be told what it does not keep.
    """
    run = find_run(Path(run_dir), algo, task)
    policy, facts = run.load(resolve_device(device), obs_scaler), facts_of(run)
    if isinstance(facts, CustomTask) and facts.scales_actions:
        return InUserUnits(policy, facts)
    return policy


def evaluate(
    run_dir: str | Path,
    episodes: int | None = None,
    seed: int = 0,
    device: str = "auto",
    *,
    algo: str | None = None,
    task: str | None = None,
    data: str | None = None,
    env: Function | None = None,
    shifts: Sequence[str] = (),
    suite: str | None = None,
    attack_critic: str | Path | None = None,
) -> Evaluation:
    """Evaluate a run's policy afresh.

    Args:
        run_dir: A run's folder or a file of weights in one, see `load_policy`.
        episodes: Number of episodes, of each condition; by default 10, or 20 with a suite.
        seed: Base of their seeds, which all conditions share; training evaluates on others.
        device: auto, cpu, cuda or cuda:N.
        algo: Algorithm, where a kit-style run does not tell.
        task: Task, likewise.
        data: What a kit-style run was trained on: d4rl, generated or a file. TD3+BC and RAMBO need
            its observations' mean and std, and so do shifts that count std; its own score is told
            beside the policy's.
        env: A run on the user's own data: another simulator than the run's, or one where it had
            none; a Gymnasium id, ``module:function`` or a function.
        shifts: Conditions to test the policy under as well, such as "delta:0.05" or
            "gaussian:0.1:std+mass:1.2"; see docs/robustness.md. The outcomes are added to
            `result/robustness.csv` and drawn beside it.
        suite: The conditions of a suite: robust-v1 or robust-small-v1.
        attack_critic: The run whose critics min_q attacks with; by default the run's own.

    Raises:
        UserError: No such run, no simulator, a senseless shift, an attack without critics, critics
            without an attack.
    """
    run = find_run(Path(run_dir), algo, task)
    conditions = conditions_of(shifts, suite)
    if attack_critic is not None and not any(needs_critics(parse(c)) for c in conditions):
        raise UserError("--attack-critic: no condition here is a min_q attack, leave it out")
    if episodes is None:
        episodes = EPISODES if suite else 10
    if episodes < 1:
        raise UserError(f"--episodes is {episodes}: give at least one")
    dataset = None if data is None else load(run.task, data)
    source, behaviour = run.data
    if dataset is not None:
        source, behaviour = dataset.info.source, dataset.info.behaviour_return
    scaler = None if dataset is None else obs_statistics(dataset)
    where = resolve_device(device)
    policy, facts = run.load(where, scaler), facts_of(run, env)
    std = None
    if any(needs_std(parse(condition)) for condition in conditions):
        std = run.obs_std() if dataset is None else obs_std(dataset)
    settings = EvalSettings(
        episodes,
        seed,
        obs_std=std,
        critic=None if attack_critic is None else _critic(attack_critic, run, where, scaler),
    )
    outcomes: dict[str, Outcome] = {}
    for outcome in play(
        Evaluator(facts, settings),
        policy,
        conditions,
        score_scale(facts),
        critic=OWN if attack_critic is None else str(attack_critic),
        weights=file_digest(run.weights)[:12],
    ):
        outcomes[outcome.condition] = outcome
        if shifts or suite:  # at once: a suite takes minutes
            keep_outcome(run.folder.path / ROBUSTNESS, outcome)
    clean = outcomes[CLEAN]
    found = Evaluation(
        run_dir=str(run_dir),
        algo=run.algo,
        task=run.task,
        data_source=source,
        weights=str(run.weights),
        episodes=episodes,
        seed=seed,
        score=clean.mean,
        score_std=clean.std,
        episode_length=clean.length,
        score_behaviour=float(
            normalized_score(behaviour, facts) if clean.what == "score" else behaviour
        ),
        scale=clean.what,
        outcomes=outcomes if shifts or suite else {},
    )
    if found.outcomes:
        title = f"{found.title}: {episodes} episodes each, mean ± std over episodes"
        draw(run.folder.path / ROBUSTNESS_FIGURE, {run.algo: [outcomes]}, title)
    return found


def _critic(
    path: str | Path, run: OwnRun | KitRun, device: torch.device, scaler: StandardScaler | None
) -> Any:
    """The policy of another run, whose critics value what the first one observes and does."""
    other = find_run(Path(path), None, None)
    if len({(task.obs_dim, task.action_dim) for task in map(facts_of, (run, other))}) > 1:
        told = f"--attack-critic {path} is a run of {other.task}"
        raise UserError(told, f"its critics cannot value {run.task}: take a run of its simulator")
    return other.load(device, scaler if isinstance(other, KitRun) else None)


def facts_of(run: OwnRun | KitRun, env: Function | None = None) -> Task:
    """A run's task, with another simulator where one is given.

    Raises:
        UserError: A simulator for a benchmark's task, which has its own.
    """
    known = run.facts if isinstance(run, OwnRun) else run.task
    facts = get_task(known) if isinstance(known, str) else known
    if env is None:
        return facts
    if not isinstance(facts, CustomTask):
        raise UserError(f"{run.task} has a simulator of its own: leave out --env")
    functions = {**dict(facts.functions)} | ({} if isinstance(env, str) else {"env": env})
    made = replace(facts, env_id=name_of(env), functions=tuple(functions.items()))
    if facts.ref_env in ("", made.env_id) or made.env_id == facts.env_id:
        return made
    return replace(made, ref_min=math.nan, ref_max=math.nan)  # elsewhere they are no scale


def find_run(path: Path, algo: str | None, task: str | None) -> OwnRun | KitRun:
    """The run that lies there.

    Raises:
        UserError: None does, or one of ours is told what it knows.
    """
    kept = path.suffix == ".pth" and (path.parents[1] / MANIFEST).is_file() and path.is_file()
    if not kept and not (path / MANIFEST).is_file() and is_kit_style(path):
        return find_kit_run(path, algo, task)
    run = OwnRun(RunFolder(path.parents[1]), path) if kept else OwnRun(RunFolder(path))
    for name, told, known in (("algo", algo, run.algo), ("task", task, run.task)):
        if told not in (None, known):
            raise UserError(f"{path} is a run of {name} {known}, not {told}: leave out --{name}")
    return run


def _read_scaler(folder: Path) -> StandardScaler | None:
    if not folder.is_dir():
        return None
    scaler = StandardScaler()
    scaler.load_scaler(str(folder))
    return scaler
