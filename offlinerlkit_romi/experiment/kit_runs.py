"""A policy saved by OfflineRL-Kit, or by a script in its style, rebuilt from its weights.

Such a run leaves `model/policy.pth`, for an algorithm with a model also `dynamics.pth`, `mu.npy`
and `std.npy`, and its arguments in `record/hyper_param.json`. The shapes of the weights tell the
networks' widths; the file of arguments, or the caller, tells algorithm and task.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import Generators, read_state, read_weights
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.utils.logger import WEIGHTS_FILE
from offlinerlkit_romi.utils.scaler import StandardScaler

ARGUMENTS = "record/hyper_param.json"
UNKNOWN = "unknown"
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class KitRun:
    """A kit-style run or a bare file of weights, and what they belong to."""

    weights: Path
    algo: str
    task: str

    @property
    def folder(self) -> RunFolder:
        """Where results of it are written."""
        folder = self.weights.parent
        return RunFolder(folder.parent if folder.name in ("model", "checkpoint") else folder)

    @property
    def data(self) -> tuple[str, float]:
        """Source and mean return of its data, which such a run does not tell."""
        return UNKNOWN, math.nan

    def obs_std(self) -> NoReturn:
        """Raise a UserError: such a run does not keep it."""
        raise UserError(
            f"{self.weights}: this run does not keep the std of its observations, which a shift "
            "counts: give --data, or data= from Python"
        )

    def load(self, device: torch.device, obs_scaler: StandardScaler | None = None) -> Any:
        """Rebuild the policy, and its dynamics model where one lies beside it.

        Args:
            device: Where to.
            obs_scaler: Mean and std of the training data's observations, for an algorithm that
                standardises them: the kit does not save them.

        Returns:
            The policy in evaluation mode.

        Raises:
            UserError: The weights are of another algorithm, or `obs_scaler` is missing.
        """
        state = read_state(self.weights, device)
        dynamics = self.weights.with_name("dynamics.pth")
        known = settle(self.algo, {"task": self.task})
        try:
            self._check_dims(state)
            sizes = self._policy_sizes(state)
            if dynamics.is_file():
                sizes |= _dynamics_sizes(read_state(dynamics, device))
        except (IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.weights} is no policy of the kit's: its shapes make no network"
            ) from error
        fitting = {name: value for name, value in sizes.items() if hasattr(known.config, name)}
        config = known.override(fitting, str(self.weights)).config
        if config.standardises and obs_scaler is None:
            raise UserError(
                f"{self.weights}: {self.algo} acts on standardised observations and the kit saves "
                "no statistics of them: give --data, or obs_scaler= from Python"
            )
        task = get_task(self.task)
        setting = Setting(task.obs_dim, task.action_dim, device, Generators(0, device), obs_scaler)
        return read_policy(config, setting, self.weights, dynamics)

    def _policy_sizes(self, state: State) -> dict[str, Any]:
        """Values of a configuration that builds networks of these shapes."""
        hidden = _layers(state, r"actor\.backbone\.model\.(\d+)\.weight")
        # a dropout after each activation spreads the layers out; its rate does not matter any more
        rate = 0.1 if 3 in hidden else None
        sizes: dict[str, Any] = {
            "hidden_dims": [len(hidden[index]) for index in sorted(hidden)],
            "dropout_rate": rate,
            "actor_dropout": rate,
        }
        if "critics.model.0.weight" in state:
            sizes["num_critics"] = len(state["critics.model.0.weight"])
        if critics := _layers(state, r"critics\.(\d+)\.last\.weight"):
            sizes["num_q_ensemble"] = len(critics)
        if "behavior_policy.mean.weight" in state:
            latent, width = state["behavior_policy.mean.weight"].shape
            sizes |= {"vae_hidden_dim": width, "vae_latent_dim": latent}
        if weighting := _layers(state, r"weighting_net\.net\.model\.(\d+)\.weight"):
            *inner, _ = (weighting[index] for index in sorted(weighting))
            sizes["weight_hidden_dims"] = [len(weight) for weight in inner]
            task = get_task(self.task)
            narrow = weighting[0].shape[-1] == task.obs_dim + task.action_dim
            sizes["weight_input"] = "sa" if narrow else "sas"
        return sizes

    def _check_dims(self, state: State) -> None:
        """Raise a UserError unless the actor's input and output have the task's widths."""
        first = state.get("actor.backbone.model.0.weight")
        heads = ("actor.last.weight", "actor.dist_net.mu.weight")
        head = next((state[name] for name in heads if name in state), None)
        if first is None or head is None:
            raise UserError(
                f"{self.weights} is no policy of the kit's: it has no actor of its kind"
            )
        task, found = get_task(self.task), (first.shape[-1], len(head))
        if found != (task.obs_dim, task.action_dim):
            raise UserError(
                f"{self.weights} takes {found[0]} observations and gives {found[1]} actions, "
                f"{self.task} has {task.obs_dim} and {task.action_dim}: give its own --task"
            )


def read_policy(config: RunConfig, setting: Setting, weights: Path, dynamics: Path) -> Any:
    """Build a policy and read its weights, and those of its model where they are there.

    Returns:
        The policy in evaluation mode.
    """
    policy = build_policy(config, setting)
    policy.load_state_dict(read_weights(policy, weights, setting.device))
    if dynamics.is_file() and hasattr(policy, "dynamics"):
        policy.dynamics.load(str(dynamics.parent))
    policy.eval()
    return policy


def is_kit_style(path: Path) -> bool:
    """Whether a policy lies there, as a file or where a kit-style run keeps it."""
    return _weights(path) is not None


def find_kit_run(path: Path, algo: str | None = None, task: str | None = None) -> KitRun:
    """Find a run's weights and what they belong to.

    Args:
        path: A run's folder, its `model` or `checkpoint` folder, or a `policy.pth`.
        algo: Algorithm; by default the run's own word, `algo_name`.
        task: Task; by default the run's own word.

    Raises:
        UserError: No weights there, or neither the run nor the caller tells what they belong to.
    """
    weights = _weights(path)
    if weights is None:
        raise UserError(f"{path} holds no policy: give a run's folder, or a policy.pth")
    said = _arguments(weights.parent.parent)
    found = {"algo": algo or said.get("algo_name"), "task": task or said.get("task")}
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"{weights} does not tell its {name}: give {name}=, or --{name}")
    return KitRun(weights, str(found["algo"]), str(found["task"]))


def obs_statistics(dataset: Dataset) -> StandardScaler:
    """Mean and std + 1e-3 of the observations, as the kit's `normalize_obs` takes them."""
    buffer = ReplayBuffer(
        len(dataset), dataset.observations.shape[1:], action_dim=dataset.actions.shape[1]
    )
    buffer.load_dataset(dataset.as_dict())
    return StandardScaler(*buffer.normalize_obs())


def _weights(path: Path) -> Path | None:
    places = (path / "model", path / "checkpoint", path)
    files = [path] if path.suffix == ".pth" else [place / WEIGHTS_FILE for place in places]
    return next((file for file in files if file.is_file()), None)


def _arguments(folder: Path) -> dict[str, Any]:
    """What the run was told, nothing where it did not note it down."""
    try:
        lines = (folder / ARGUMENTS).read_text("utf-8").splitlines()
        found = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _dynamics_sizes(state: State) -> dict[str, Any]:
    hidden = _layers(state, r"backbones\.(\d+)\.weight")
    widths = [hidden[index].shape[-1] for index in sorted(hidden)]
    sizes: dict[str, Any] = {
        "dynamics_hidden_dims": widths,
        "dynamics_weight_decay": [0.0] * (len(widths) + 1),
    }
    if "elites" in state and "output_layer.weight" in state:
        sizes |= {"n_elites": len(state["elites"]), "n_ensemble": len(state["output_layer.weight"])}
    return sizes


def _layers(state: State, pattern: str) -> dict[int, torch.Tensor]:
    """Weights whose names match, by their number."""
    found = ((re.fullmatch(pattern, name), value) for name, value in state.items())
    return {int(match[1]): value for match, value in found if match}
