"""Maximum-likelihood fit of the ensemble, with hold-out, elites and early stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from offlinerlkit_romi.dynamics.losses import supervised_loss
from offlinerlkit_romi.engine import Engine, MetricMeans, Steps, apply_gradients
from offlinerlkit_romi.modules import EnsembleDynamicsModel
from offlinerlkit_romi.utils.logger import POLICY_ROWS


class FitProgress(NamedTuple):
    """State of a fit after an epoch: its mean loss, and the members' mean squared error."""

    epoch: int
    max_epochs: int | None
    train_loss: float
    holdout_loss: float
    epochs_since_update: int


OnEpoch = Callable[[FitProgress], None]


def holdout_split(
    n: int, holdout_ratio: float, generator: torch.Generator | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers for training and hold-out; at most 1000 are held out (kit behaviour)."""
    n_holdout = min(int(n * holdout_ratio), 1000)
    order = torch.randperm(n, generator=generator, device=device)
    return order[n_holdout:], order[:n_holdout]


class EnsembleFit:
    """One fit: every member on its own bootstrap sample, its best weights on the hold-out kept.

    Args:
        model: the ensemble, changed in place.
        optim: its optimiser.
        train: scaled inputs (n, S+A) and targets (n, D).
        holdout: the same for the held-out rows.
        batch_size: rows per member and step.
        logvar_loss_coef: factor of the log-variance bound term.
        generator: source of bootstrap and row order.

    Attributes:
        engine: carries out the steps.
    """

    def __init__(
        self,
        model: EnsembleDynamicsModel,
        optim: torch.optim.Optimizer,
        train: tuple[torch.Tensor, torch.Tensor],
        holdout: tuple[torch.Tensor, torch.Tensor],
        batch_size: int,
        logvar_loss_coef: float,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.optim = model, optim
        self.train, self.holdout = train, holdout
        self.batch_size, self.logvar_loss_coef = batch_size, logvar_loss_coef
        self.generator = generator
        self.engine = Engine()
        self._losses = MetricMeans()
        self._start = torch.zeros((), dtype=torch.int64, device=train[0].device)
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.best = torch.full((model.num_ensemble,), 1e10, device=train[0].device)
        n = len(train[0])
        self.rows = torch.randint(
            n, (model.num_ensemble, n), generator=generator, device=train[0].device
        )

    def run(
        self, max_epochs: int | None, max_epochs_since_update: int, on_epoch: OnEpoch
    ) -> torch.Tensor:
        """Fit until nothing improves for so many epochs, or `max_epochs`.

        Returns:
            Each member's best hold-out error, (E,).
        """
        epoch, since_update, steps = 0, 0, self.steps()
        while (max_epochs is None or epoch < max_epochs) and since_update < max_epochs_since_update:
            epoch += 1
            train_loss = self._epoch(steps)
            errors = self.holdout_errors()
            improved = (self.best - errors) / self.best > 0.01
            self.keep(improved)
            self.best = torch.where(improved, errors, self.best)
            since_update = 0 if bool(improved.any()) else since_update + 1
            progress = FitProgress(
                epoch, max_epochs, train_loss, float(errors.mean()), since_update
            )
            on_epoch(progress)
        return self.best

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        """One optimiser step on the rows (E, B) of the training set; returns the loss, detached."""
        inputs, targets = self.train
        loss = supervised_loss(self.model, inputs[rows], targets[rows], self.logvar_loss_coef)
        apply_gradients(self.optim, self.params, torch.autograd.grad(loss, self.params))
        return loss.detach()

    def steps(self) -> Steps:
        """Its steps as the engine carries them out: for `step_batches`.

        Not an attribute: the fit would own what owns the fit, and stay in memory with its data.
        """
        return self.engine.steps("the dynamics fit", self._step_next, self.state)

    def step_batches(self, steps: Steps, count: int) -> None:
        """Take `steps` on the first `count` whole batches of the present order."""
        self._start.zero_()
        for portion in self.engine.portions(count):
            steps(portion)

    def state(self) -> dict[str, Any]:
        """What a step changes."""
        parts = {"model": self.model, "optim": self.optim, "losses": self._losses}
        draws = {} if self.generator is None else {"generator": self.generator}
        return {**parts, **draws, "start": self._start}

    def keep(self, improved: torch.Tensor) -> None:
        """Remember the present weights of the members that improved, mask (E,)."""
        self.model.update_save(improved)

    @torch.no_grad()
    def holdout_errors(self) -> torch.Tensor:
        """Mean squared error of every member's mean on the held-out rows, (E,)."""
        mean, _ = self.model(self.holdout[0])
        return (mean - self.holdout[1]).square().mean((1, 2))

    def _epoch(self, steps: Steps) -> float:
        self._shuffle()
        whole, rest = divmod(self.rows.shape[1], self.batch_size)
        self.step_batches(steps, whole)
        if rest:  # of a size of its own, once per epoch: not worth a graph
            self._losses.add({"loss": self.step(self.rows[:, -rest:])})
        return self._losses.result()["loss"]

    def _step_next(self, count: int) -> None:
        """Steps on the next whole batches of the present order."""
        offsets = torch.arange(self.batch_size, device=self.rows.device)
        for _ in range(count):
            rows = self.rows.index_select(1, self._start + offsets)
            self._losses.add({"loss": self.step(rows)})
            self._start.add_(self.batch_size)

    def _shuffle(self) -> None:
        for member in range(len(self.rows)):
            order = torch.randperm(
                self.rows.shape[1], generator=self.generator, device=self.rows.device
            )
            self.rows[member] = self.rows[member, order]


def log_fit(logger: Any | None, on_epoch: OnEpoch | None) -> OnEpoch:
    """A callback that writes the kit's two fit keys to the kit's logger, then calls `on_epoch`."""

    def callback(progress: FitProgress) -> None:
        if logger is not None:
            logger.logkv("loss/dynamics_train_loss", progress.train_loss)
            logger.logkv("loss/dynamics_holdout_loss", progress.holdout_loss)
            logger.set_timestep(progress.epoch)
            logger.dumpkvs(exclude=[POLICY_ROWS])
        if on_epoch is not None:
            on_epoch(progress)

    return callback
