"""From a configuration to a policy: what several algorithms build alike, and the way to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.engine import Generators, make_adam
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.experiment.config import CriticConfig, RunConfig, SoftConfig
from offlinerlkit_romi.modules import ActorProb, Critic, TanhDiagGaussian
from offlinerlkit_romi.nets import MLP
from offlinerlkit_romi.utils.scaler import StandardScaler

MAX_ACTION = 1.0  # every task's actions lie in [-1, 1]
Builder = Callable[[Any, "Setting"], Any]


@dataclass(frozen=True)
class ActionBox:
    """Bounds of the actions, under the names of a gym space.

    Attributes:
        low: (A,).
        high: (A,).
    """

    low: torch.Tensor
    high: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(A,)."""
        return tuple(self.low.shape)


@dataclass(frozen=True)
class Setting:
    """What a policy is built for.

    Attributes:
        obs_dim: S.
        action_dim: A.
        device: Where everything lives.
        generators: The run's sources of randomness.
        obs_scaler: Mean and std of the data's observations; None where they are used raw.
        task: The task, where the configuration's name does not say it all.
        goal: Where a maze's rollouts end; None where nobody knows.
    """

    obs_dim: int
    action_dim: int
    device: torch.device
    generators: Generators
    obs_scaler: StandardScaler | None = None
    task: Task | None = None
    goal: tuple[float, float] | None = None

    @property
    def action_space(self) -> ActionBox:
        """The box [-1, 1]^A."""
        high = torch.full((self.action_dim,), MAX_ACTION, device=self.device)
        return ActionBox(-high, high)


def build_policy(config: RunConfig, setting: Setting) -> Any:
    """Build the policy that belongs to the configuration's class, its model included."""
    return _builders()[type(config)](config, setting).to(setting.device)


def make_lr_scheduler(config: RunConfig, policy: Any) -> Any:
    """The actor's learning-rate schedule over the epochs, or None for a constant rate."""
    if config.actor_lr_schedule == "constant":
        return None
    return torch.optim.lr_scheduler.CosineAnnealingLR(policy.actor_optim, config.epoch)


def soft_actor(config: RunConfig, setting: Setting, dropout: float | None = None) -> ActorProb:
    """SAC's actor: a tanh-Gaussian whose spread depends on the state."""
    with setting.generators.initialisation("actor"):
        backbone = MLP(setting.obs_dim, config.hidden_dims, dropout_rate=dropout)
        head = TanhDiagGaussian(
            backbone.output_dim,
            setting.action_dim,
            unbounded=True,
            conditioned_sigma=True,
            max_mu=MAX_ACTION,
        )
        return ActorProb(backbone, head, setting.device)


def critic(name: str, config: RunConfig, setting: Setting, with_action: bool = True) -> Critic:
    """A critic initialised by its own name."""
    with setting.generators.initialisation(name):
        inputs = setting.obs_dim + (setting.action_dim if with_action else 0)
        return Critic(MLP(inputs, config.hidden_dims), setting.device)


def twin_critics(config: CriticConfig, setting: Setting) -> dict[str, Any]:
    """Both critics, their optimisers, and how their targets move."""
    critics = {name: critic(name, config, setting) for name in ("critic1", "critic2")}
    optims = {f"{name}_optim": _adam(net, config.critic_lr) for name, net in critics.items()}
    return critics | optims | {"tau": config.tau, "gamma": config.gamma}


def sac_arguments(
    config: SoftConfig, setting: Setting, dropout: float | None = None
) -> dict[str, Any]:
    """Actor, critics, their optimisers and the temperature."""
    return twin_critics(config, setting) | soft_arguments(config, setting, dropout)


def soft_arguments(
    config: SoftConfig, setting: Setting, dropout: float | None = None
) -> dict[str, Any]:
    """Actor, its optimiser, the temperature and the source of noise."""
    actor = soft_actor(config, setting, dropout)
    return {
        "actor": actor,
        "actor_optim": _adam(actor, config.actor_lr),
        "alpha": _temperature(config, setting),
        "generator": setting.generators.policy,
    }


def _temperature(config: SoftConfig, setting: Setting) -> Any:
    if not config.auto_alpha:
        return config.alpha
    target = config.target_entropy
    log_alpha = torch.zeros(1, requires_grad=True, device=setting.device)
    return (
        -float(setting.action_dim) if target is None else target,
        log_alpha,
        make_adam([log_alpha], config.alpha_lr),
    )


def _adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    return make_adam(trainable(module), lr)


def trainable(module: nn.Module) -> list[torch.Tensor]:
    """The parameters an optimiser moves."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@cache
def _builders() -> dict[type[RunConfig], Builder]:
    # they build on this module
    from offlinerlkit_romi.experiment import build_model_based, build_model_free

    return build_model_free.BUILDERS | build_model_based.BUILDERS
