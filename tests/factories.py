"""Small policies, dynamics and buffers for tests; every size can be changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import EnsembleDynamics, WeightedEnsembleDynamics
from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.modules import (
    ActorProb,
    Critic,
    DiagGaussian,
    EnsembleCritic,
    EnsembleDynamicsModel,
    TanhDiagGaussian,
    WeightingNet,
)
from offlinerlkit_romi.nets import MLP
from offlinerlkit_romi.policy import (
    COMBOPolicy,
    CQLPolicy,
    EDACPolicy,
    IQLPolicy,
    MOPOPolicy,
    RAMBOPolicy,
    ROMIPolicy,
    SACPolicy,
)
from offlinerlkit_romi.utils.scaler import StandardScaler

OBS_DIM, ACTION_DIM = 3, 2
FLOAT64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def never(obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(next_obs[..., :1], dtype=torch.bool)


def make_batch(
    rows: int = 8,
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    terminals: float = 0.2,
) -> dict[str, torch.Tensor]:
    """Random transitions with some terminals."""
    g = generator(seed)
    obs = torch.randn(rows, obs_dim, generator=g, dtype=FLOAT64)
    batch = {
        "observations": obs,
        "next_observations": obs + 0.3 * torch.randn(rows, obs_dim, generator=g, dtype=FLOAT64),
        "actions": 2 * torch.rand(rows, action_dim, generator=g, dtype=FLOAT64) - 1,
        "rewards": torch.randn(rows, 1, generator=g, dtype=FLOAT64),
        "terminals": (torch.rand(rows, 1, generator=g, dtype=FLOAT64) < terminals).double(),
    }
    return {name: value.to(dtype) for name, value in batch.items()}


def make_buffer(rows: int = 64, seed: int = 0, **sizes: Any) -> ReplayBuffer:
    """Float32 buffer filled with `make_batch` rows."""
    batch = make_batch(rows, seed=seed, dtype=torch.float32, **sizes)
    obs_dim, action_dim = batch["observations"].shape[1], batch["actions"].shape[1]
    buffer = ReplayBuffer(
        rows, (obs_dim,), np.float32, action_dim, np.float32, generator=generator(seed)
    )
    buffer.load_dataset({name: value.numpy() for name, value in batch.items()})
    return buffer


def make_dynamics(
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    hidden_dims: tuple[int, ...] = (5, 4),
    members: int = 3,
    elites: int = 2,
    dtype: torch.dtype = FLOAT64,
    weighted: bool = True,
    seed: int = 0,
    **kwargs: Any,
) -> EnsembleDynamics:
    """Ensemble with a fitted scaler and random biases, so that no layer starts symmetric."""
    torch.manual_seed(seed)
    decays = [0.01 * (i + 1) for i in range(len(hidden_dims) + 1)]
    model = EnsembleDynamicsModel(
        obs_dim, action_dim, hidden_dims, members, elites, weight_decays=decays
    )
    for layer in model.layers:
        torch.nn.init.normal_(layer.bias, std=0.1)
    model.to(dtype)
    rng = np.random.default_rng(seed)
    scaler = StandardScaler()
    scaler.fit(rng.normal(size=(50, obs_dim + action_dim)))
    cls = WeightedEnsembleDynamics if weighted else EnsembleDynamics
    kwargs.setdefault("terminal_fn", never)
    kwargs.setdefault("generator", generator(seed + 1))
    return cls(model, make_adam(model.parameters(), 1e-3), scaler, **kwargs)


def make_policy(
    cls: type[SACPolicy],
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    hidden_dims: tuple[int, ...] = (6, 5),
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    dynamics: EnsembleDynamics | None = None,
    model_optim: torch.optim.Optimizer | None = None,
    weighting_optim: Any = None,
    weight_hidden_dims: tuple[int, ...] = (4, 3),
    weight_input: str = "sas",
    auto_alpha: bool = True,
    **kwargs: Any,
) -> Any:
    """A policy of any of the four classes with its optimisers and generators.

    `weighting_optim` takes the weighting net's parameters.
    """
    torch.manual_seed(seed)
    head = TanhDiagGaussian(hidden_dims[-1], action_dim, unbounded=True, conditioned_sigma=True)
    actor = ActorProb(MLP(obs_dim, hidden_dims), head).to(dtype)
    critics = [Critic(MLP(obs_dim + action_dim, hidden_dims)).to(dtype) for _ in range(2)]
    optims = [make_adam(actor.parameters(), 1e-3)]
    optims += [make_adam(critic.parameters(), 1e-3) for critic in critics]
    args: list[Any] = [actor, *critics]
    if issubclass(cls, MOPOPolicy | COMBOPolicy):
        if dynamics is None:
            dynamics = make_dynamics(
                obs_dim, action_dim, dtype=dtype, seed=seed, weighted=issubclass(cls, ROMIPolicy)
            )
        args.insert(0, dynamics)
    weighting_net = WeightingNet(
        obs_dim, action_dim, weight_hidden_dims, weight_input=weight_input
    ).to(dtype)
    if issubclass(cls, ROMIPolicy):
        args.append(weighting_net)
    args += optims
    if issubclass(cls, RAMBOPolicy):
        assert dynamics is not None
        args.append(model_optim or make_adam(dynamics.model.parameters(), 1e-3))
        kwargs.setdefault("adv_rollout_batch_size", 8)
        kwargs.setdefault("adv_train_steps", 2)
    if issubclass(cls, ROMIPolicy):
        make = weighting_optim or (lambda params: make_adam(params, 1e-3))
        args.append(make(weighting_net.parameters()))
    if issubclass(cls, CQLPolicy):
        kwargs.setdefault("action_space", make_box(action_dim))
        kwargs.setdefault("num_repeart_actions", 3)
    if auto_alpha:
        log_alpha = torch.zeros(1, dtype=dtype, requires_grad=True)
        kwargs["alpha"] = (-float(action_dim), log_alpha, make_adam([log_alpha], 1e-3))
    kwargs.setdefault("generator", generator(seed + 2))
    return cls(*args, **kwargs)


def make_box(action_dim: int = ACTION_DIM, low: float = -1.0, high: float = 1.0) -> Any:
    """What policies read of an action space."""
    box = SimpleNamespace(low=np.full(action_dim, low), high=np.full(action_dim, high))
    box.shape = (action_dim,)
    return box


def make_iql(
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    hidden_dims: tuple[int, ...] = (6, 5),
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    dropout: float | None = None,
    **kwargs: Any,
) -> IQLPolicy:
    """Slow critics that differ from the critics, deviations that differ from one."""
    torch.manual_seed(seed)
    head = DiagGaussian(hidden_dims[-1], action_dim)
    backbone = MLP(obs_dim, hidden_dims, dropout_rate=dropout)
    nets: dict[str, torch.nn.Module] = {"actor": ActorProb(backbone, head)}
    for name in ("critic_q1", "critic_q2"):
        nets[name] = Critic(MLP(obs_dim + action_dim, hidden_dims))
    nets["critic_v"] = Critic(MLP(obs_dim, hidden_dims))
    optims = {f"{k}_optim": make_adam(net.to(dtype).parameters(), 1e-3) for k, net in nets.items()}
    kwargs.setdefault("generator", generator(seed + 2))
    policy = IQLPolicy(**nets, **optims, action_space=make_box(action_dim), **kwargs)
    with torch.no_grad():
        head.sigma_param.normal_(std=0.3)
        for slow in (policy.critic_q1_old, policy.critic_q2_old):
            for p in slow.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return policy


def make_edac(
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    hidden_dims: tuple[int, ...] = (6, 5),
    members: int = 4,
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    auto_alpha: bool = True,
    **kwargs: Any,
) -> EDACPolicy:
    """Random biases and slow critics of their own."""
    torch.manual_seed(seed)
    head = TanhDiagGaussian(hidden_dims[-1], action_dim, unbounded=True, conditioned_sigma=True)
    actor = ActorProb(MLP(obs_dim, hidden_dims), head).to(dtype)
    critics = EnsembleCritic(obs_dim, action_dim, hidden_dims, num_ensemble=members).to(dtype)
    if auto_alpha:
        log_alpha = torch.zeros(1, dtype=dtype, requires_grad=True)
        kwargs["alpha"] = (-float(action_dim), log_alpha, make_adam([log_alpha], 1e-3))
    optims = make_adam(actor.parameters(), 1e-3), make_adam(critics.parameters(), 1e-3)
    kwargs.setdefault("generator", generator(seed + 2))
    policy = EDACPolicy(actor, critics, *optims, **kwargs)
    with torch.no_grad():
        for p in [*critics.parameters(), *policy.critics_old.parameters()]:
            p.add_(0.2 * torch.randn_like(p))
    return policy
