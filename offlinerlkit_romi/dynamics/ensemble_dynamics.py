"""What policies ask of a dynamics model, and the learned simulator: fit, step and penalties."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.dynamics.fit import EnsembleFit, OnEpoch, holdout_split, log_fit
from offlinerlkit_romi.dynamics.losses import gaussian_log_prob
from offlinerlkit_romi.dynamics.space import ModelSpace, read_space, write_space
from offlinerlkit_romi.engine import Engine, normal, read_weights, save_atomically, spared_collector
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules import EnsembleDynamicsModel
from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.utils.scaler import StandardScaler

TerminalFn = Callable[[Any, Any, Any], Any]
StepResult = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]
# scaled inputs (n, S+A) and targets (n, D)
Rows = tuple[torch.Tensor, torch.Tensor]
RewardFn = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
UNCERTAINTY_MODES = ("aleatoric", "pairwise-diff", "ensemble_std")


class BaseDynamics:
    """A model, its optimiser and its save and load.

    Args:
        model: predicts transitions.
        optim: trains the model.

    Attributes:
        learns: Whether there is anything to fit, to checkpoint and to look at.
    """

    learns = True

    def __init__(self, model: nn.Module, optim: torch.optim.Optimizer) -> None:
        self.model = model
        self.optim = optim

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One model step: next observations, rewards, terminals, information."""
        raise NotImplementedError

    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> StepResult:
        """`step` on tensors, (n, S), (n, A): (n, S), (n, 1), (n, 1) bool, information."""
        raise NotImplementedError

    def expected_next(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The next observation without noise, (n, S), (n, A) -> (n, S)."""
        raise NotImplementedError

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name; nothing where nothing is learned."""
        return {}

    def fitted(self) -> dict[str, Any]:
        """What a fit changes besides the model and its optimiser, by name, for a checkpoint."""
        return {}

    def save(self, save_path: str) -> None:
        """Write the model into a folder."""
        raise NotImplementedError

    def load(self, load_path: str) -> None:
        """Read the model from a folder."""
        raise NotImplementedError


def known_reward(
    dynamics: Any,
    obs: torch.Tensor,
    action: torch.Tensor,
    next_obs: torch.Tensor,
    predicted: torch.Tensor,
) -> torch.Tensor:
    """The reward (n, 1) that a dynamics model was told to compute, else the predicted one."""
    reward_fn = getattr(dynamics, "reward_fn", None)  # the kit's models have none
    return predicted if reward_fn is None else reward_fn(obs, action, next_obs)


class EnsembleDynamics(BaseDynamics):
    """Gaussian ensemble as a simulator.

    Args:
        model: the ensemble.
        optim: its optimiser for the maximum-likelihood fit.
        scaler: standardises (s, a); fitted by `train`.
        terminal_fn: rule (obs, action, next_obs) -> (n, 1) bool.
        penalty_coef: factor of the uncertainty penalty; 0 switches it off, and with it the passes
            it needs.
        uncertainty_mode: `aleatoric`, `pairwise-diff` or `ensemble_std`.
        generator: source of members, noise and fit order; none means torch's global one.

    Attributes:
        reward_fn: (obs, action, next_obs) -> (n, 1) where the reward is known; it then replaces the
            predicted one.
        engine: carries out the fit's steps.
        space: what observations and rewards it is taught, where that is known; saved beside it.

    Raises:
        ValueError: unknown uncertainty mode.
    """

    model: EnsembleDynamicsModel
    reward_fn: RewardFn | None = None
    space: ModelSpace | None = None

    def __init__(
        self,
        model: EnsembleDynamicsModel,
        optim: torch.optim.Optimizer,
        scaler: StandardScaler,
        terminal_fn: TerminalFn,
        penalty_coef: float = 0.0,
        uncertainty_mode: str = "aleatoric",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, optim)
        if uncertainty_mode not in UNCERTAINTY_MODES:
            raise ValueError(
                f"uncertainty_mode is one of {UNCERTAINTY_MODES}: {uncertainty_mode!r}"
            )
        self.scaler, self.terminal_fn, self.generator = scaler, terminal_fn, generator
        self._penalty_coef, self._uncertainty_mode = penalty_coef, uncertainty_mode
        self.engine = Engine()

    def inputs(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Scaled model input, (..., S), (..., A) -> (..., S+A)."""
        return self.scaler.transform_tensor(torch.cat([obs, action], dim=-1))

    @torch.no_grad()
    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> StepResult:
        """One step of every row under a random elite of its own.

        Each row is evaluated only under the member drawn for it, unless a penalty needs all
        members.

        Args:
            obs: (n, S).
            action: (n, A).

        Returns:
            Next observations (n, S), rewards (n, 1), terminals (n, 1) bool, and `raw_reward`,
            `penalty` (n, 1).
        """
        inputs = self.inputs(obs, action)
        slots = self._draw_slots(len(obs))
        if self._penalty_coef:
            means, logvars = self.model(inputs)
            mean, logvar = self._pick(means, slots), self._pick(logvars, slots)
        else:
            mean, logvar = self._routed(inputs, slots)
        sample = mean + torch.exp(0.5 * logvar) * normal(mean.shape, mean, self.generator)
        next_obs, reward, terminal = self.outcome(obs, action, sample)
        info = {"raw_reward": reward}
        if self._penalty_coef:
            info["penalty"] = self.penalty(means, logvars)
            reward = reward - self._penalty_coef * info["penalty"]
        return next_obs, reward, terminal, info

    def outcome(
        self, obs: torch.Tensor, action: torch.Tensor, sample: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a sample of [delta obs, reward] (n, D) leads to: next observations, rewards, ends.

        Returns:
            (n, S), (n, 1) and (n, 1) bool.
        """
        next_obs = obs + sample[:, :-1]
        reward = known_reward(self, obs, action, next_obs, sample[:, -1:])
        terminal = torch.as_tensor(self.terminal_fn(obs, action, next_obs), device=obs.device)
        return next_obs, reward, terminal

    @torch.no_grad()
    def draw(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A sample of [delta obs, reward] per row under a random elite of its own.

        Args:
            inputs: scaled (s, a), (n, S+A).

        Returns:
            Samples (n, D), their log-densities under those elites (n, 1), and the places of these
            among the elites (n,).
        """
        slots = self._draw_slots(len(inputs))
        mean, logvar = self._routed(inputs, slots)
        sample = mean + torch.exp(0.5 * logvar) * normal(mean.shape, mean, self.generator)
        place = slots // -(-len(inputs) // len(self.model.elites))
        return sample, gaussian_log_prob(mean, logvar, sample).unsqueeze(-1), place

    def penalty(self, means: torch.Tensor, logvars: torch.Tensor) -> torch.Tensor:
        """Uncertainty over all members, (E, n, D), (E, n, D) -> (n, 1) (kit behaviour)."""
        if self._uncertainty_mode == "aleatoric":
            uncertainty = torch.exp(0.5 * logvars).norm(dim=-1).amax(0)
        elif self._uncertainty_mode == "pairwise-diff":
            next_means = means[..., :-1]
            uncertainty = (next_means - next_means.mean(0)).norm(dim=-1).amax(0)
        else:
            uncertainty = means[..., :-1].var(0, unbiased=False).mean(-1).sqrt()
        return uncertainty.unsqueeze(-1)

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """`sample_step` on numpy arrays (the kit's signature)."""
        next_obs, reward, terminal, info = self.sample_step(
            as_input(obs, self.model), as_input(action, self.model)
        )
        arrays = {name: value.cpu().numpy() for name, value in info.items()}
        return next_obs.cpu().numpy(), reward.cpu().numpy(), terminal.cpu().numpy(), arrays

    @torch.no_grad()
    def sample_next_obss(
        self, obs: torch.Tensor, action: torch.Tensor, num_samples: int
    ) -> torch.Tensor:
        """Samples of every elite, (n, S), (n, A) -> (num_samples, M, n, S)."""
        mean, logvar = self.model(self.inputs(obs, action))
        mean, std = mean[self.model.elites], torch.exp(0.5 * logvar[self.model.elites])
        noise = normal((num_samples, *mean.shape), mean, self.generator)
        return obs + (mean + std * noise)[..., :-1]

    def expected_next(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Mean of the elites' predictions, (n, S), (n, A) -> (n, S)."""
        mean, _ = self.model(self.inputs(obs, action))
        # (E, n, D) -> (n, S)
        return obs + mean[self.model.elites].mean(0)[:, :-1]

    def training_state(self) -> dict[str, Any]:
        """The model, its optimiser and its generator."""
        state: dict[str, Any] = {"dynamics": self.model, "dynamics_optim": self.optim}
        if self.generator is not None:
            state["dynamics_generator"] = self.generator
        return state

    def format_samples_for_training(
        self, data: Mapping[str, ArrayLike]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Unscaled inputs (n, S+A) and targets [delta obs, reward] (n, D) of transitions."""
        obs, next_obs = (
            as_input(data[k], self.model) for k in ("observations", "next_observations")
        )
        reward = as_input(data["rewards"], self.model).reshape(-1, 1)
        inputs = torch.cat([obs, as_input(data["actions"], self.model)], dim=-1)
        return inputs, torch.cat([next_obs - obs, reward], dim=-1)

    def train(
        self,
        data: Mapping[str, ArrayLike],
        logger: Any | None = None,
        max_epochs: int | None = None,
        max_epochs_since_update: int = 5,
        batch_size: int = 256,
        holdout_ratio: float = 0.2,
        logvar_loss_coef: float = 0.01,
        on_epoch: OnEpoch | None = None,
    ) -> torch.Tensor:
        """Fit the ensemble, name the elites, restore each member's best weights.

        Args:
            data: transitions in the kit's keys.
            logger: the kit's logger; the fitted model is saved into its `model_dir`.
            max_epochs: stop there at the latest; none means only the early stop ends the fit.
            max_epochs_since_update: stop after so many epochs in which no member improved by 1 %.
            batch_size: rows per member and step.
            holdout_ratio: share of rows held out, at most 1000 rows.
            logvar_loss_coef: factor of the log-variance bound term.
            on_epoch: called after every epoch.

        Returns:
            Each member's best hold-out error, (E,).

        Raises:
            UserError: too few transitions to hold one out.
        """
        inputs, targets = self.format_samples_for_training(data)
        del data  # millions of rows need not be there twice
        rows, holdout = holdout_split(len(inputs), holdout_ratio, self.generator, inputs.device)
        if not len(holdout) or not len(rows):
            raise UserError(
                f"dynamics fit: {len(inputs)} transitions leave {len(holdout)} for hold-out at "
                f"holdout_ratio={holdout_ratio}; give more data or a larger holdout_ratio"
            )
        self.scaler.fit(inputs[rows].cpu().numpy())
        inputs = self.scaler.transform_tensor(inputs)
        train = (inputs[rows], targets[rows])
        held_out = (inputs[holdout], targets[holdout])
        del inputs, targets
        fit = self._make_fit(train, held_out, batch_size, logvar_loss_coef)
        fit.engine = self.engine
        with spared_collector():
            errors = fit.run(max_epochs, max_epochs_since_update, log_fit(logger, on_epoch))
        self._finish_fit(fit, errors)
        if logger is not None:
            self.save(logger.model_dir)
        return errors

    def fitted(self) -> dict[str, Any]:
        """What a fit changes besides the model and its optimiser, by name, for a checkpoint."""
        return {"scaler": self.scaler}

    def save(self, save_path: str) -> None:
        """Write `dynamics.pth` and the scaler into a folder, as the kit does, and the space."""
        save_atomically(self.model.state_dict(), os.path.join(save_path, "dynamics.pth"))
        self.scaler.save_scaler(save_path)
        write_space(save_path, self.space)

    def load(self, load_path: str) -> None:
        """Read a folder written by `save`, or by the kit; a refused one changes nothing.

        Raises:
            UserError: the folder holds no model and scaler, those of another network, or a model
                that says it is of other observations or rewards.
        """
        path = os.path.join(load_path, "dynamics.pth")
        state, space = read_weights(self.model, path, self.model.elites.device), self.space
        told = read_space(load_path)
        if told is not None and space is not None and (why := told.unlike(space)):
            raise UserError(f"the dynamics model of {load_path} does not fit: {why}; fit one here")
        self.scaler.load_scaler(load_path)
        self.model.load_state_dict(state)
        self.space = told if space is None else space

    def _make_fit(
        self, train: Rows, holdout: Rows, batch_size: int, logvar_loss_coef: float
    ) -> EnsembleFit:
        return EnsembleFit(
            self.model, self.optim, train, holdout, batch_size, logvar_loss_coef, self.generator
        )

    def _finish_fit(self, fit: EnsembleFit, errors: torch.Tensor) -> None:
        """Name the elites and restore each member's best weights."""
        self.model.set_elites(errors.argsort(stable=True)[: self.model.num_elites])
        self.model.load_save()

    def _draw_slots(self, n: int) -> torch.Tensor:
        """A random slot for every row, (n,): slot // ceil(n / M) is the row's elite.

        Stratified: every row's elite is uniform, and the elites share the rows evenly, so that the
        batched product over members has a fixed shape.
        """
        slots = len(self.model.elites) * -(-n // len(self.model.elites))
        order = torch.randperm(slots, generator=self.generator, device=self.model.elites.device)
        return order[:n]

    def _routed(
        self, inputs: torch.Tensor, slots: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate each row under its own member, (n, S+A), (n,) -> mean, log-variance (n, D)."""
        n, members = len(inputs), len(self.model.elites)
        grouped = inputs.new_zeros(members * -(-n // members), inputs.shape[-1])
        grouped[slots] = inputs
        # (M*G, S+A) -> (M, G, S+A)
        grouped = grouped.view(members, -1, inputs.shape[-1])
        mean, logvar = self.model.forward_members(grouped, self.model.elites)
        # (M, G, D) -> (M*G, D) -> (n, D)
        return mean.flatten(0, 1)[slots], logvar.flatten(0, 1)[slots]

    def _pick(self, outputs: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The drawn member's row of (E, n, D) -> (n, D)."""
        n = outputs.shape[1]
        member = self.model.elites[slots // -(-n // len(self.model.elites))]
        return outputs[member, torch.arange(n, device=outputs.device)]
