"""Small CQL, TD3, TD3+BC, cloning, MCQ and MOBILE policies for tests."""

from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.modules import Actor, ActorProb, Critic, TanhDiagGaussian
from offlinerlkit_romi.nets import MLP, VAE
from offlinerlkit_romi.policy import (
    BCPolicy,
    CQLPolicy,
    MCQPolicy,
    MOBILEPolicy,
    TD3BCPolicy,
    TD3Policy,
)
from tests.factories import ACTION_DIM, FLOAT64, OBS_DIM, generator, make_dynamics, make_policy

HIDDEN = (6, 5)
SLOW = ("actor_old", "critic1_old", "critic2_old", "critics_old")


def make_cql(cls: type = CQLPolicy, **kwargs: Any) -> Any:
    return unsettle(make_policy(cls, **kwargs))


def make_td3(
    cls: type[TD3Policy] = TD3BCPolicy,
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    max_action: float = 1.0,
    dropout: float | None = None,
    **kwargs: Any,
) -> Any:
    torch.manual_seed(seed)
    actor = Actor(MLP(OBS_DIM, HIDDEN, dropout_rate=dropout), ACTION_DIM, max_action)
    nets = [module.to(dtype) for module in (actor, *_critics(2))]
    kwargs.setdefault("generator", generator(seed + 2))
    policy = cls(*nets, *map(_adam, nets), max_action=max_action, **kwargs)
    return unsettle(policy)


def make_bc(dtype: torch.dtype = FLOAT64, seed: int = 0, **kwargs: Any) -> BCPolicy:
    torch.manual_seed(seed)
    actor = Actor(MLP(OBS_DIM, HIDDEN), ACTION_DIM).to(dtype)
    kwargs.setdefault("generator", generator(seed + 2))
    return BCPolicy(actor, _adam(actor), **kwargs)


def make_mcq(
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    dropout: float | None = None,
    auto_alpha: bool = True,
    **kwargs: Any,
) -> MCQPolicy:
    torch.manual_seed(seed)
    vae = VAE(OBS_DIM, ACTION_DIM, 7, 4, 1.0)
    nets = [module.to(dtype) for module in (_soft_actor(dropout), *_critics(2), vae)]
    if auto_alpha:
        kwargs["alpha"] = _temperature(dtype)
    kwargs.setdefault("generator", generator(seed + 2))
    kwargs.setdefault("num_sampled_actions", 3)
    return unsettle(MCQPolicy(*nets, *map(_adam, nets), **kwargs))


def make_mobile(
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    critics: int = 2,
    auto_alpha: bool = True,
    **kwargs: Any,
) -> MOBILEPolicy:
    dynamics = make_dynamics(members=4, elites=3, weighted=False, dtype=dtype, seed=seed)
    dynamics.model.set_elites([3, 0, 2])
    torch.manual_seed(seed)
    actor = _soft_actor(None).to(dtype)
    ensemble = nn.ModuleList(_critics(critics)).to(dtype)
    if auto_alpha:
        kwargs["alpha"] = _temperature(dtype)
    kwargs.setdefault("generator", generator(seed + 2))
    kwargs.setdefault("num_samples", 3)
    return unsettle(
        MOBILEPolicy(dynamics, actor, ensemble, _adam(actor), _adam(ensemble), **kwargs)
    )


@torch.no_grad()
def unsettle(policy: Any) -> Any:
    """Move the slow copies off the networks they start as, so that the two can be told apart."""
    source = generator(77)
    for name in SLOW:
        for p in getattr(policy, name, nn.Module()).parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=source))
    return policy


def _adam(module: nn.Module) -> torch.optim.Adam:
    return make_adam(module.parameters(), 1e-3)


def _critics(count: int) -> list[Critic]:
    return [Critic(MLP(OBS_DIM + ACTION_DIM, HIDDEN)) for _ in range(count)]


def _soft_actor(dropout: float | None) -> ActorProb:
    head = TanhDiagGaussian(HIDDEN[-1], ACTION_DIM, unbounded=True, conditioned_sigma=True)
    return ActorProb(MLP(OBS_DIM, HIDDEN, dropout_rate=dropout), head)


def _temperature(dtype: torch.dtype) -> tuple[float, torch.Tensor, torch.optim.Optimizer]:
    log_alpha = torch.zeros(1, dtype=dtype, requires_grad=True)
    return -float(ACTION_DIM), log_alpha, make_adam([log_alpha], 1e-3)
