"""This package's pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.bench.measure import Work
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.data import load
from offlinerlkit_romi.dynamics.ensemble_dynamics import EnsembleDynamics
from offlinerlkit_romi.engine import Generators, MetricMeans, spared_collector
from offlinerlkit_romi.envs import Evaluator
from offlinerlkit_romi.envs.make import make_env
from offlinerlkit_romi.experiment.buffers import Buffers, prepare
from offlinerlkit_romi.experiment.build import Setting, build_policy, soft_actor
from offlinerlkit_romi.experiment.config import ModelBasedConfig
from offlinerlkit_romi.policy.soft_policy import SoftPolicy

NAME = "ours"
QUIET_LOGVAR = -6.0  # bound of an untrained model's log-variance: its states stay healthy


class OurPieces:
    """Every piece as a `Work`; policies and buffers are made when a piece asks for them."""

    def __init__(self, workload: Workload, label: str = NAME, precision: str | None = None) -> None:
        self.workload = workload
        self.label = label
        self.precision = workload.precision if precision is None else precision
        self._made: dict[str, tuple[Any, Buffers, Any]] = {}

    def policy_step(self, algo: str) -> Work:
        """Draw a batch, update the policy, add up its metrics."""
        policy, buffers, config = self.made(algo)
        real, n = buffers.real, config.batch_size
        draw: Callable[[], Any] = partial(real.sample, n)
        if isinstance(config, ModelBasedConfig):
            fake, share = buffers.for_model.fake, int(n * config.real_ratio)
            fake.add_batch(*real.tensors().values())

            def draw() -> Any:
                return {"real": real.sample(share), "fake": fake.sample(n - share)}

        return self._repeated(lambda: policy.update(draw()))

    def model_update(self, algo: str) -> Work:
        """One of RAMBO's or ROMI's model updates."""
        policy, buffers, _ = self.made(algo)
        updates = policy.model_updates(buffers.for_model.rows)
        return self._repeated(lambda: next(updates))

    def fit_step(self) -> Work:
        """One step of the dynamics model's pre-training."""
        policy, buffers, config = self.made("rambo")
        dynamics: EnsembleDynamics = policy.dynamics
        inputs, targets = dynamics.format_samples_for_training(buffers.real.tensors())
        rows = (dynamics.scaler.transform_tensor(inputs), targets)
        fit = dynamics._make_fit(rows, rows, config.dynamics_batch_size, config.logvar_loss_coef)
        batches = fit.rows.split(config.dynamics_batch_size, dim=1)[: self.workload.steps]
        means = MetricMeans()

        def run() -> None:
            for batch in batches:
                means.add({"loss": fit.step(batch)})

        return self._work(run, len(batches))

    def rollout(self) -> Work:
        """RAMBO's policy in its model, without penalty."""
        policy, buffers, config = self.made("rambo")
        starts = buffers.real.sample(config.rollout_batch_size)["observations"]
        return self._work(lambda: policy.rollout(starts, config.rollout_length), 1)

    def evaluation(self) -> Work:
        """All episodes side by side."""
        return self._evaluation(lambda task: Evaluator(task, self.workload.episodes))

    def evaluation_one_by_one(self) -> Work:
        """One environment, episode after episode."""
        return self._evaluation(
            lambda task: Evaluator(make_env(task), self.workload.episodes), "one by one"
        )

    def loading(self, path: Path) -> Work:
        """Read a file, check it, pair its rows."""
        return self._work(lambda: load(self.workload.task.name, str(path), progress=False), 1)

    def made(self, algo: str) -> tuple[Any, Buffers, Any]:
        """Policy, buffers and configuration, made once."""
        if algo not in self._made:
            config, device = self.workload.config(algo), self.workload.device
            setting, buffers = prepare(config, self.workload.dataset, device, Generators(0, device))
            policy = build_policy(config, setting)
            policy.train()
            if isinstance(config, ModelBasedConfig):
                settle_model(policy.dynamics, buffers.real.tensors())
            self._made[algo] = policy, buffers, config
        return self._made[algo]

    def _evaluation(self, make: Callable[[Any], Evaluator], variant: str = "") -> Work:
        task = self.workload.evaluation_task()
        config, device = self.workload.config("bc"), torch.device("cpu")
        setting = Setting(task.obs_dim, task.action_dim, device, Generators(0, device))
        actor = soft_actor(config, setting)
        policy = SoftPolicy(actor, torch.optim.SGD(actor.parameters(), 0.0), 0.2)
        evaluator = make(task)
        return replace(self._work(lambda: evaluator(policy.eval()), 1), variant=variant)

    def _repeated(self, update: Callable[[], Any]) -> Work:
        means = MetricMeans()

        def run() -> None:
            for _ in range(self.workload.steps):
                means.add(update())

        return self._work(run, self.workload.steps)

    def _work(self, run: Callable[[], Any], units: int) -> Work:
        def spared() -> None:  # as the trainer and the fit do
            with spared_collector():
                run()

        return Work(self.label, spared, units, "eager", self.precision)


def settle_model(dynamics: Any, data: Any) -> None:
    """Fit the scaler and keep the untrained model's noise small, this package's or the kit's."""
    inputs = dynamics.format_samples_for_training(data)[0]
    dynamics.scaler.fit(inputs.cpu().numpy() if isinstance(inputs, torch.Tensor) else inputs)
    with torch.no_grad():
        dynamics.model.max_logvar.fill_(QUIET_LOGVAR)
