"""A checkout's policies, put together as this package's are."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.experiment.build import MAX_ACTION, Parts, Setting

POLICIES = {
    "romi": "ROMIPolicy",
    "rambo": "RAMBOPolicy",
    "mopo": "MOPOPolicy",
    "combo": "COMBOPolicy",
    "mobile": "MOBILEPolicy",
    "cql": "CQLPolicy",
    "iql": "IQLPolicy",
    "edac": "EDACPolicy",
    "td3bc": "TD3BCPolicy",
    "mcq": "MCQPolicy",
    "bc": "BCPolicy",
}
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


def build_theirs(lib: Checkout, workload: Workload, config: Any) -> Any:
    """A checkout's policy from this package's configuration, its model included."""
    return config.build(TheirParts(lib, workload, config)).to(str(workload.device))
