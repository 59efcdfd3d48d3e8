"""A run's estimates of its policy's value, where no simulator can score it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics import EnsembleDynamics, FitProgress
from offlinerlkit_romi.engine import derive_seed
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import Parts, Setting
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.folder import ESTIMATE
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.pretrain import FitReport, fit_settings
from offlinerlkit_romi.experiment.rewards import discounted_values, piece_starts
from offlinerlkit_romi.ope import FQERows, FQESettings, fitted_q_evaluation, model_value
from offlinerlkit_romi.policy_trainer.progress import Stage
from offlinerlkit_romi.utils.logger import Logger
from offlinerlkit_romi.utils.scaler import StandardScaler

FQE, MODEL, BEHAVIOUR = "fqe", "model", "behaviour"
FQE_BEHAVIOUR = "fqe_behaviour"
FOLDER = "estimate_model"
STARTS = 1000  # starts of episodes that values are taken at
FQE_ROWS = 50_000  # of the data, for a fitted-Q evaluation
BLOCK = 1 << 16  # observations per call of the policy
# for algorithms without a model of their own
OWN_MODEL = ModelBasedConfig()
TITLES = {
    FQE: "fitted-Q evaluation",
    FQE_BEHAVIOUR: "fitted-Q evaluation of the data's own policy",
    MODEL: "value in the model",
}
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Check = Callable[[], None]


def wanted_estimates(config: RunConfig, task: Task) -> tuple[str, ...]:
    """Which estimates a run makes.

    `auto`: where there is no simulator, FQE, and the model's where the algorithm has a model.
    """
    if config.estimates == "none" or (config.estimates == "auto" and task.env_id):
        return ()
    if config.estimates == "auto":
        return (FQE,) if config.model is None else (FQE, MODEL)
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
        reward_map: The model pays the data's rewards times the first plus the second.
        device: Where the work is done.
        logger: Takes what there is to say.
    """

    config: RunConfig
    dataset: Dataset
    scaler: StandardScaler | None
    wanted: tuple[str, ...]
    model: EnsembleDynamics | None
    reward_map: tuple[float, float]
    device: torch.device
    logger: Logger
    _calibration: dict[str, float] | None = None

    def due(self, epoch: int) -> bool:
        """Whether the policy of this epoch is estimated: the last one is."""
        every = self.config.estimate_freq
        return bool(self.wanted) and (
            epoch == self.config.epoch or (every > 0 and epoch % every == 0)
        )

    def __call__(self, policy: Any, epoch: int, check: Check = lambda: None) -> dict[str, float]:
        """Estimates under their keys in the data's own rewards, those that are not finite left out.

        Draws of its own: training goes on as if nobody had asked. `check` is called all along and
        may raise to leave.
        """
        policy.eval()
        seed = derive_seed(self.config.seed, f"estimates/{epoch}")
        found: dict[str, float] = {}
        if FQE in self.wanted:
            found |= self._fqe(FQE, self._rows_of(policy, seed), seed, check)
            found |= self._calibrate(check)
        if MODEL in self.wanted and self.model is not None:
            values = self._model_value(policy, self.model, seed, check)
            found |= {
                MODEL: float(values.mean()),
                f"{MODEL}_std": float(values.std(unbiased=False)),
            }
        found[BEHAVIOUR] = self.behaviour()
        return {f"{ESTIMATE}{name}": value for name, value in found.items() if math.isfinite(value)}

    def behaviour(self) -> float:
        """Mean discounted return of the data's own pieces of episodes, cut where they are cut."""
        return float(discounted_values(self.dataset, self.config.discount).mean())

    def _fqe(self, name: str, rows: FQERows, seed: int, check: Check) -> dict[str, float]:
        """Value and spread where the fit settled, and whether it did."""
        settings = FQESettings(gamma=self.config.discount, steps=self.config.fqe_steps)
        generator, title = torch.Generator().manual_seed(seed), TITLES[name]
        with self._watched(title, check) as watch:
            result = fitted_q_evaluation(rows, settings, generator, watch)
        if result.problem:
            self.logger.log(f"{title} did not settle, it gives no value: {result.problem}")
            return {f"{name}_settled": 0.0}
        return {name: result.mean, f"{name}_std": result.std, f"{name}_settled": 1.0}

    def _calibrate(self, check: Check) -> dict[str, float]:
        """The same of the policy that made the data, once: how near is it to their returns?"""
        if self._calibration is None:
            seed = derive_seed(self.config.seed, "estimates/behaviour")
            rows = self._behaviour_rows(seed)
            found = {} if rows is None else self._fqe(FQE_BEHAVIOUR, rows, seed, check)
            self._calibration = found
        return self._calibration

    def _rows_of(self, policy: Any, seed: int) -> FQERows:
        data, chosen = self.dataset, _choose(np.arange(len(self.dataset)), seed)
        starts = data.observations[self._starts()]
        next_action = actions_of(policy, data.next_observations[chosen])
        return self._fqe_rows(chosen, next_action, starts, actions_of(policy, starts))

    def _behaviour_rows(self, seed: int) -> FQERows | None:
        """The rows whose next action the data tell; None where few do."""
        data, first = self.dataset, piece_starts(self.dataset)
        last = np.r_[first[1:], len(data)] - 1
        told = np.ones(len(data), bool)
        told[last] = data.terminals[last, 0]
        if told.mean() < 0.5:
            return None
        chosen, starts = _choose(np.flatnonzero(told), seed), self._starts()
        next_action = data.actions[np.minimum(chosen + 1, len(data) - 1)]
        return self._fqe_rows(chosen, next_action, data.observations[starts], data.actions[starts])

    def _fqe_rows(
        self, chosen: Rows, next_action: Floats, starts: Floats, start_action: Floats
    ) -> FQERows:
        data = self.dataset
        return FQERows(
            obs=self._tensor(data.observations[chosen]),
            action=self._tensor(data.actions[chosen]),
            reward=self._tensor(data.rewards[chosen]),
            next_obs=self._tensor(data.next_observations[chosen]),
            next_action=self._tensor(next_action),
            terminal=self._tensor(data.terminals[chosen]),
            start_obs=self._tensor(starts),
            start_action=self._tensor(start_action),
        )

    def _starts(self) -> Rows:
        """First rows of pieces of episodes, evenly spaced where there are many."""
        first = piece_starts(self.dataset)
        return first[np.linspace(0, len(first) - 1, min(STARTS, len(first))).astype(int)]

    def _model_value(
        self, policy: Any, model: EnsembleDynamics, seed: int, check: Check
    ) -> torch.Tensor:
        model.generator = torch.Generator(device=self.device).manual_seed(seed)
        starts = self._tensor(self._seen(self.dataset.observations[self._starts()]))
        observed = self._seen(self.dataset.observations)
        box = self._tensor(observed.min(0)), self._tensor(observed.max(0))

        def act(obs: torch.Tensor) -> torch.Tensor:
            raw = obs.cpu().numpy()
            if self.scaler is not None:
                raw = self.scaler.inverse_transform(raw)
            return self._tensor(actions_of(policy, raw))

        with self._watched(TITLES[MODEL], check) as watch:
            gamma, scale = self.config.discount, self.reward_map
            value = model_value(model, act, starts, gamma, box, reward_map=scale, watch=watch)
        return value

    @contextmanager
    def _watched(self, title: str, check: Check) -> Iterator[Callable[[float], None]]:
        """What hears how much is done; `check` may leave."""
        with Stage(self.logger, title) as stage:

            def watch(share: float) -> None:
                check()
                stage(share)

            yield watch

    def _seen(self, obs: Floats) -> Floats:
        """Observations as the policy's networks and the model see them."""
        return obs if self.scaler is None else self.scaler.transform(obs)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)


def _choose(rows: Rows, seed: int) -> Rows:
    """As many of the rows as a fitted-Q evaluation takes, in their order."""
    if len(rows) <= FQE_ROWS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, FQE_ROWS, replace=False))


def actions_of(policy: Any, obs: Floats, block: int = BLOCK) -> Floats:
    """The policy's deterministic actions (n, A) for raw observations (n, S), by blocks."""
    parts = [
        policy.select_action(obs[i : i + block], deterministic=True)
        for i in range(0, len(obs), block)
    ]
    return np.concatenate(parts).astype(np.float32)


def make_estimator(context: Context, setting: Setting, policy: Any, *, fitted: bool) -> Estimator:
    """Make a run's estimator, and keep the model for it that pre-training has just made.

    Args:
        context: The run's.
        setting: Scaler and device.
        policy: Has `dynamics` where the algorithm has a model.
        fitted: That model has just been fitted, and the policy has not trained on it yet.
    """
    config, dataset, logger = context.config, context.dataset, context.logger
    wanted, model = wanted_estimates(config, context.task), None
    reason = dataset.untold() if wanted else ""
    if reason:
        logger.log(f"no estimates: {reason}")
        wanted = ()
    if MODEL in wanted:
        try:
            check = context.interrupts.check
            model = independent_model(config, setting, dataset, policy, logger, check, fitted)
        except UserError as error:
            logger.log(f"no model estimate: {error}")
    reward_map, scaler = (config.model or OWN_MODEL).reward_map, setting.obs_scaler
    return Estimator(config, dataset, scaler, wanted, model, reward_map, setting.device, logger)


def independent_model(
    config: RunConfig,
    setting: Setting,
    dataset: Dataset,
    policy: Any,
    logger: Logger,
    check: Check,
    fitted: bool,
) -> EnsembleDynamics:
    """The model by likelihood alone: no policy has been trained against it.

    Raises:
        UserError: No termination rule is known, rewards are on another scale, or the folder is
            gone.
    """
    if config.model is not None and config.standardises_rewards:
        raise UserError("the model's rewards are standardised (--norm-reward)")
    model = Parts(config.model or OWN_MODEL, setting).dynamics()  # without penalty or count
    folder = Path(logger.model_dir) / FOLDER
    if fitted:
        folder.mkdir(exist_ok=True)
        if config.model is not None:
            policy.dynamics.save(str(folder))
        else:
            with FitReport(logger, check) as report:
                _fit_own(model, setting, dataset, config.seed, report)
            model.save(str(folder))
    model.load(str(folder))
    return model


def _fit_own(
    model: EnsembleDynamics,
    setting: Setting,
    dataset: Dataset,
    seed: int,
    on_epoch: Callable[[FitProgress], None],
) -> None:
    generator = torch.Generator(device=setting.device)
    model.generator = generator.manual_seed(derive_seed(seed, "estimates/model"))
    rows: dict[str, Any] = dataset.model_dict()
    if setting.obs_scaler is not None:
        for name in ("observations", "next_observations"):
            rows[name] = setting.obs_scaler.transform(rows[name])
    model.train(
        {name: torch.as_tensor(x, device=setting.device) for name, x in rows.items()},
        **fit_settings(OWN_MODEL),
        on_epoch=on_epoch,
    )
