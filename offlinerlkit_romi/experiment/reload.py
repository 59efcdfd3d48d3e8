"""A finished or interrupted run, read back: its policy, and what that policy is worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from offlinerlkit_romi.engine import Generators, read_weights
from offlinerlkit_romi.envs import normalized_score
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.resume import read_run
from offlinerlkit_romi.experiment.run import SCALER_FOLDER, resolve_device
from offlinerlkit_romi.experiment.summary import source_label
from offlinerlkit_romi.policy_trainer.scoring import make_scorer
from offlinerlkit_romi.utils.scaler import StandardScaler


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the attributes' names."""
        return asdict(self)

    def table(self) -> str:
        """The result for people."""
        return (
            f"{self.algo} on {self.task}, {source_label(self.data_source, self.task)}\n"
            f"  score {self.score:.2f} ± {self.score_std:.2f} over {self.episodes} episodes "
            f"of {self.episode_length:.0f} steps on average (seed {self.seed})\n"
            f"  the data's own score {self.score_behaviour:.2f}\n"
            f"  weights {self.weights}"
        )


def load_policy(run_dir: str | Path, device: str = "auto") -> Any:
    """Rebuild a run's policy with its weights, and its dynamics model where one was saved.

    Args:
        run_dir: A run's folder.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The policy in evaluation mode: `select_action(obs (n, S), deterministic=True)` takes raw
        observations.

    Raises:
        UserError: The folder is not a run's, or holds no policy yet.
    """
    run_dir = Path(run_dir)
    earlier = read_run(run_dir)
    manifest, resolved = earlier.manifest, earlier.resolved
    place = resolve_device(device)
    setting = Setting(
        manifest["data"]["obs_dim"],
        manifest["data"]["action_dim"],
        place,
        Generators(resolved.config.seed, place),
        _read_scaler(run_dir / "model" / SCALER_FOLDER),
    )
    policy = build_policy(resolved.config, setting)
    policy.load_state_dict(read_weights(policy, _weights(run_dir), place))
    if (run_dir / "model" / "dynamics.pth").is_file():
        policy.dynamics.load(str(run_dir / "model"))
    policy.eval()
    return policy


def evaluate(
    run_dir: str | Path, episodes: int = 10, seed: int = 0, device: str = "auto"
) -> Evaluation:
    """Evaluate a run's policy afresh.

    Args:
        run_dir: A run's folder.
        episodes: Number of episodes.
        seed: Base of their seeds; training evaluates on others.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: No such run, or no simulator.
    """
    run_dir = Path(run_dir)
    manifest = read_run(run_dir).manifest
    policy = load_policy(run_dir, device)
    if episodes < 1:
        raise UserError(f"--episodes is {episodes}: give at least one")
    scorer = make_scorer(manifest["task"], episodes, seed)
    assert scorer is not None
    scores = scorer(policy)
    behaviour = manifest["data"]["behaviour_return"]
    return Evaluation(
        run_dir=str(run_dir),
        algo=manifest["algo"],
        task=manifest["task"],
        data_source=manifest["data"]["source"],
        weights=str(_weights(run_dir)),
        episodes=episodes,
        seed=seed,
        score=scores.mean,
        score_std=scores.std,
        episode_length=scores.length_mean,
        score_behaviour=float("nan")
        if behaviour is None
        else normalized_score(float(behaviour), manifest["task"]),
    )


def _read_scaler(folder: Path) -> StandardScaler | None:
    if not folder.is_dir():
        return None
    scaler = StandardScaler()
    scaler.load_scaler(str(folder))
    return scaler


def _weights(run_dir: Path) -> Path:
    """The final weights, or those of the last finished epoch of a run that did not end."""
    for place in ("model", "checkpoint"):
        path = run_dir / place / "policy.pth"
        if path.is_file():
            return path
    raise UserError(f"{run_dir} holds no policy yet: its first epoch has not finished")
