"""A checkout's pieces: the same networks, settings and data as this package's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.measure import Work
from offlinerlkit_romi.bench.ours import drawing, settle_model
from offlinerlkit_romi.bench.workload import FULL_PRECISION, Workload
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.experiment.build import MAX_ACTION, Parts, Setting

# what the released ROMI calls by another name
RELEASED = {"weighting_net": "hyper_net", "weighting_optim": "hyper_optim", "xi": "epsilon"}


class TheirParts(Parts):
    """Parts of a checkout's classes, told what these know of what this package's are told."""

    def __init__(self, lib: Checkout, workload: Workload, config: Any) -> None:
        task, device = workload.task, workload.device
        setting = Setting(task.obs_dim, task.action_dim, device, Generators(0, device))
        super().__init__(config, setting)
        self.lib, self.workload, self.device = lib, workload, str(device)

    def find(self, name: str) -> Any:
        """The checkout's class of that name."""
        # the models with weights or counts are this package's; a checkout has the one
        return getattr(self.lib, "EnsembleDynamics" if name.endswith("EnsembleDynamics") else name)

    def policy(self, name: str, *args: Any, **arguments: Any) -> Any:
        """The checkout's policy, without what its constructor does not know."""
        kind = self.find(name)
        known = inspect.signature(kind.__init__).parameters
        told = {k if k in known else RELEASED.get(k, k): v for k, v in arguments.items()}
        return kind(*args, **{k: v for k, v in told.items() if k in known})

    @property
    def action_space(self) -> Any:
        """The box [-1, 1]^A, as gym has it."""
        high = np.full(self.setting.action_dim, MAX_ACTION, np.float32)
        return SimpleNamespace(low=-high, high=high, shape=high.shape, dtype=high.dtype)

    def adam(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        """As the checkouts' scripts make it."""
        return torch.optim.Adam(module.parameters(), lr=lr)

    def inner_optimizer(self, made: Any) -> torch.optim.Optimizer:
        """Adam, as published."""
        return self.adam(made.model, self.config.dynamics_adv_lr)

    def weighting_net(self) -> Any:
        """The released one: of states and actions."""
        return self.lib.hyper(*self.sizes).to(self.device)

    def adversary(self) -> dict[str, Any]:
        """One adversarial rollout a round."""
        return super().adversary() | {"adv_train_steps": self.config.rollout_length, "scaler": None}

    def _simulator(self, kind: str, model: Any, optim: Any, options: dict[str, Any]) -> Any:
        lib, rule = self.lib, self.lib.get_termination_fn(task=self.workload.task.name)
        if self.config.standardises:
            obs = self.workload.dataset.observations
            rule = lib.obs_unnormalization(rule, obs.mean(0), obs.std(0))
        return lib.EnsembleDynamics(model, optim, lib.StandardScaler(), rule, **options)


class TheirPieces:
    """The pieces a checkout has; None where it lacks one."""

    def __init__(self, workload: Workload, checkout: Checkout) -> None:
        self.workload, self.checkout = workload, checkout
        self.label = checkout.label
        self._made: dict[str, tuple[Any, Any]] = {}

    def policy_step(self, algo: str) -> Work | None:
        """Draw a batch, learn from it."""
        if not self._has(algo):
            return None
        policy, real = self._policy(algo)
        config: Any = self.workload.config(algo)
        draw = drawing(config, real, None if config.model is None else self._buffer(algo))

        def run() -> None:
            for _ in range(self.workload.steps):
                policy.learn(draw())

        return self._work(run, self.workload.steps)

    def model_update(self, algo: str) -> Work | None:
        """`update_dynamics` for as many updates as one adversarial rollout has steps."""
        if not self._has(algo):
            return None
        policy, real = self._policy(algo)
        return self._work(lambda: policy.update_dynamics(real), self.workload.rollout_length)

    def fit_step(self) -> Work | None:
        """The dynamics' `learn` on a bootstrap sample of every member."""
        algo = self._adversarial()
        if algo is None:
            return None
        policy, real = self._policy(algo)
        config: Any = self.workload.config(algo)
        dynamics, steps = policy.dynamics, self.workload.steps
        inputs, targets = dynamics.format_samples_for_training(real.sample_all())
        inputs = dynamics.scaler.transform(inputs)
        shape = (config.n_ensemble, steps * config.dynamics_batch_size)
        rows = np.random.default_rng(0).integers(len(inputs), size=shape)

        def run() -> None:
            dynamics.learn(
                inputs[rows], targets[rows], config.dynamics_batch_size, config.logvar_loss_coef
            )

        return self._work(run, steps)

    def rollout(self) -> Work | None:
        """The policy in its model, without penalty."""
        algo = self._adversarial()
        if algo is None:
            return None
        policy, real = self._policy(algo)
        starts = real.sample(self.workload.rollout_rows)["observations"].cpu().numpy()
        return self._work(lambda: policy.rollout(starts, self.workload.rollout_length), 1)

    def evaluation(self) -> Work | None:
        """The trainer's own loop, on a simulator that speaks old gym."""
        if not self.checkout.has("MBPolicyTrainer", "SACPolicy"):
            return None
        from offlinerlkit_romi.envs.gym_style import GymStyleEnv

        task = self.workload.evaluation_task()
        parts = TheirParts(
            self.checkout,
            replace(self.workload, task=task, device=torch.device("cpu")),
            self.workload.config("bc"),
        )
        actor, critics = parts.soft_actor(), [parts.critic(name) for name in ("one", "two")]
        optims = [parts.adam(net, 0.0) for net in (actor, *critics)]
        policy = self.checkout.SACPolicy(actor, *critics, *optims)
        trainer = self.checkout.MBPolicyTrainer(
            policy,
            GymStyleEnv(task),
            *(None,) * 3,
            (1, 1, 1),
            eval_episodes=self.workload.episodes,
        )
        return self._work(trainer._evaluate, 1, slow=True)

    def loading(self, path: Path) -> Work | None:
        """Read a file, then its `qlearning_dataset`."""
        if not self.checkout.has("qlearning_dataset"):
            return None
        import h5py

        def run() -> None:
            with h5py.File(path, "r") as file:
                arrays = {name: file[name][()] for name in file}
            self.checkout.qlearning_dataset(None, arrays)

        return self._work(run, 1, slow=True)

    def _adversarial(self) -> str | None:
        return next((algo for algo in ("rambo", "romi") if self._has(algo)), None)

    def _has(self, algo: str) -> bool:
        return self.checkout.has(f"{algo.upper()}Policy")

    def _policy(self, algo: str) -> tuple[Any, Any]:
        if algo not in self._made:
            real = self._buffer(algo)
            parts = TheirParts(self.checkout, self.workload, self.workload.config(algo))
            policy = parts.config.build(parts).to(parts.device)
            policy.train()
            if self.workload.config(algo).model is not None:
                settle_model(policy.dynamics, real.sample_all())
            self._made[algo] = policy, real
        return self._made[algo]

    def _buffer(self, algo: str) -> Any:
        task = self.workload.task
        buffer = self.checkout.ReplayBuffer(
            buffer_size=self.workload.rows,
            obs_shape=(task.obs_dim,),
            obs_dtype=np.float32,
            action_dim=task.action_dim,
            action_dtype=np.float32,
            device=str(self.workload.device),
        )
        buffer.load_dataset(self.workload.dataset.as_dict())
        if self.workload.config(algo).standardises:
            buffer.normalize_obs()
        return buffer

    def _work(self, run: Callable[[], Any], units: int, slow: bool = False) -> Work:
        return Work(
            self.label, run, units, "eager", FULL_PRECISION, slow, warm_ups=0 if slow else 1
        )
