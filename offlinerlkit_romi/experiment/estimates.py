"""A run's estimates of its policy's value, where no simulator can score it."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.engine import derive_seed
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.estimates import FQERows, FQESettings, fitted_q_evaluation, model_value
from offlinerlkit_romi.experiment.build import Setting
from offlinerlkit_romi.experiment.build_model_based import plain_dynamics
from offlinerlkit_romi.experiment.config import ModelBasedConfig, RunConfig
from offlinerlkit_romi.experiment.rewards import discounted_values, piece_starts
from offlinerlkit_romi.utils.scaler import StandardScaler

FQE, MODEL, BEHAVIOUR = "fqe", "model", "behaviour"
PREFIX = "estimate/"
FOLDER = "estimate_model"
STARTS = 1000  # starts of episodes that the model is rolled from
BLOCK = 1 << 16  # observations per call of the policy
# for algorithms without a model of their own
OWN_MODEL = ModelBasedConfig()
Floats = NDArray[np.float32]
Tell = Callable[[str], None]


def wanted_estimates(config: RunConfig, task: Task) -> tuple[str, ...]:
    """Which estimates a run makes.

    `auto`: where there is no simulator, FQE, and the model's where the algorithm has a model.
    """
    if config.estimates == "none" or (config.estimates == "auto" and task.env_id):
        return ()
    if config.estimates == "auto":
        return (FQE, MODEL) if isinstance(config, ModelBasedConfig) else (FQE,)
    return (FQE, MODEL) if config.estimates == "both" else (config.estimates,)


@dataclass
class Estimator:
    """Estimates the value of a policy at the starts of the data's episodes.

    Attributes:
        config: The run's configuration.
        dataset: Transitions, rewards as they are.
        scaler: What the policy standardises observations by; None where it does not.
        wanted: The estimates to make.
        model: The model as it was before the policy trained, where it is wanted.
        device: Where the work is done.
    """

    config: RunConfig
    dataset: Dataset
    scaler: StandardScaler | None
    wanted: tuple[str, ...]
    model: EnsembleDynamics | None
    device: torch.device

    @property
    def gamma(self) -> float:
        """Discount per step: the algorithm's, or 0.99 where it has none."""
        return float(getattr(self.config, "gamma", 0.99))

    def due(self, epoch: int) -> bool:
        """Whether the policy of this epoch is estimated: the last one is."""
        every = self.config.estimate_freq
        return bool(self.wanted) and (
            epoch == self.config.epoch or (every > 0 and epoch % every == 0)
        )

    def __call__(self, policy: Any, epoch: int) -> dict[str, float]:
        """Estimates under their keys, those that are not finite left out.

        Draws of its own: training goes on as if nobody had asked.
        """
        policy.eval()
        seed = derive_seed(self.config.seed, f"estimates/{epoch}")
        found: dict[str, float] = {}
        if FQE in self.wanted:
            values = self._fqe(policy, torch.Generator().manual_seed(seed))
            found |= {FQE: float(values.mean())}
        if MODEL in self.wanted and self.model is not None:
            values = self._model_value(policy, self.model, seed)
            found |= {
                MODEL: float(values.mean()),
                f"{MODEL}_std": float(values.std(unbiased=False)),
            }
        found[BEHAVIOUR] = self.behaviour()
        return {f"{PREFIX}{name}": value for name, value in found.items() if math.isfinite(value)}

    def behaviour(self) -> float:
        """Mean discounted return of the data's own pieces of episodes, cut where they are cut."""
        return float(discounted_values(self.dataset, self.gamma).mean())

    def _fqe(self, policy: Any, generator: torch.Generator) -> torch.Tensor:
        data = self.dataset
        starts = data.observations[piece_starts(data)]
        mean, std = data.observations.mean(0), data.observations.std(0) + 1e-3
        rows = FQERows(
            obs=self._tensor((data.observations - mean) / std),
            action=self._tensor(data.actions),
            reward=self._tensor(data.rewards),
            next_obs=self._tensor((data.next_observations - mean) / std),
            next_action=self._tensor(actions_of(policy, data.next_observations)),
            terminal=self._tensor(data.terminals),
            start_obs=self._tensor((starts - mean) / std),
            start_action=self._tensor(actions_of(policy, starts)),
        )
        settings = FQESettings(gamma=self.gamma, steps=self.config.fqe_steps)
        return fitted_q_evaluation(rows, settings, generator)

    def _model_value(self, policy: Any, model: EnsembleDynamics, seed: int) -> torch.Tensor:
        model.generator = torch.Generator(device=self.device).manual_seed(seed)
        starts = self.dataset.observations[piece_starts(self.dataset)]
        kept = np.linspace(0, len(starts) - 1, min(STARTS, len(starts))).astype(int)
        observed = self._seen(self.dataset.observations)
        box = self._tensor(observed.min(0)), self._tensor(observed.max(0))

        def act(obs: torch.Tensor) -> torch.Tensor:
            raw = obs.cpu().numpy()
            if self.scaler is not None:
                raw = self.scaler.inverse_transform(raw)
            return self._tensor(actions_of(policy, raw))

        return model_value(model, act, self._tensor(self._seen(starts[kept])), self.gamma, box)

    def _seen(self, obs: Floats) -> Floats:
        """Observations as the policy's networks and the model see them."""
        return obs if self.scaler is None else self.scaler.transform(obs)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)


def actions_of(policy: Any, obs: Floats) -> Floats:
    """The policy's deterministic actions (n, A) for raw observations (n, S)."""
    parts = [
        policy.select_action(obs[i : i + BLOCK], deterministic=True)
        for i in range(0, len(obs), BLOCK)
    ]
    return np.concatenate(parts).astype(np.float32)


def make_estimator(
    config: RunConfig,
    setting: Setting,
    dataset: Dataset,
    task: Task,
    policy: Any,
    model_dir: Path,
    tell: Tell,
    *,
    fitted: bool,
) -> Estimator:
    """Make a run's estimator, and keep the model for it that pre-training has just made.

    Args:
        config: The run's configuration.
        setting: Scaler and device.
        dataset: Transitions.
        task: Their task.
        policy: Has `dynamics` where the algorithm has a model.
        model_dir: The run's folder of models.
        tell: Hears one line where an estimate cannot be made.
        fitted: The policy's model has just been fitted, and the policy has not trained on it yet.
    """
    wanted, model = wanted_estimates(config, task), None
    reason = dataset.untold() if wanted else ""
    if reason:
        tell(f"no estimates: {reason}")
        wanted = ()
    if MODEL in wanted:
        try:
            model = _independent_model(config, setting, dataset, policy, model_dir, fitted)
        except UserError as error:
            tell(f"no model estimate: {error}")
    return Estimator(config, dataset, setting.obs_scaler, wanted, model, setting.device)


def _independent_model(
    config: RunConfig,
    setting: Setting,
    dataset: Dataset,
    policy: Any,
    model_dir: Path,
    fitted: bool,
) -> EnsembleDynamics:
    """The model by likelihood alone: no policy has been trained against it.

    Raises:
        UserError: No termination rule is known, rewards are on another scale, or the folder is
            gone.
    """
    if getattr(config, "norm_reward", False):
        raise UserError("the model's rewards are standardised (--norm-reward)")
    own = isinstance(config, ModelBasedConfig)
    base = config if isinstance(config, ModelBasedConfig) else OWN_MODEL
    model = plain_dynamics(base, setting)
    folder = model_dir / FOLDER
    if fitted:
        folder.mkdir(exist_ok=True)
        if own:
            policy.dynamics.save(str(folder))
        else:
            _fit_own(model, setting, dataset, config.seed)
            model.save(str(folder))
    model.load(str(folder))
    return model


def _fit_own(model: EnsembleDynamics, setting: Setting, dataset: Dataset, seed: int) -> None:
    generator = torch.Generator(device=setting.device)
    model.generator = generator.manual_seed(derive_seed(seed, "estimates/model"))
    rows: dict[str, Any] = dataset.model_dict()
    if setting.obs_scaler is not None:
        for name in ("observations", "next_observations"):
            rows[name] = setting.obs_scaler.transform(rows[name])
    model.train(
        {name: torch.as_tensor(x, device=setting.device) for name, x in rows.items()},
        max_epochs=OWN_MODEL.dynamics_max_epochs,
        max_epochs_since_update=OWN_MODEL.max_epochs_since_update,
        batch_size=OWN_MODEL.dynamics_batch_size,
        holdout_ratio=OWN_MODEL.holdout_ratio,
        logvar_loss_coef=OWN_MODEL.logvar_loss_coef,
    )


def read_estimates(progress: Path) -> list[tuple[int, dict[str, float]]]:
    """(policy steps, estimates by name) of a run's progress file, oldest first."""
    if not progress.is_file():
        return []
    found = []
    with progress.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {
                name.removeprefix(PREFIX): float(value)
                for name, value in row.items()
                if name and name.startswith(PREFIX) and value
            }
            if values:
                found.append((int(float(row["timestep"])), values))
    return found
