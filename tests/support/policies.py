"""Small policies, dynamics and buffers for tests; every size can be changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi import modules, nets
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import EnsembleDynamics, WeightedEnsembleDynamics
from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.modules import EnsembleDynamicsModel, WeightingNet
from offlinerlkit_romi.policy import Game
from offlinerlkit_romi.utils.scaler import StandardScaler

# this package's classes under the kit's names
OURS = SimpleNamespace(**vars(modules), VAE=nets.VAE, MLP=nets.MLP)
DETERMINISTIC = ("BCPolicy", "TD3Policy", "TD3BCPolicy")
# small counts where a constructor has the argument
SMALL = {
    **{"adv_rollout_batch_size": 8, "adv_train_steps": 2, "num_repeart_actions": 3},
    **{"num_sampled_actions": 3, "num_samples": 3},
}
SMALL_GAME = Game(
    **{"trajectories": 8, "trajectory_length": 3, "model_horizon": 3, "kl_rows": 8},
    **{"leader_epochs": 2, "leader_batch": 4, "follower_epochs": 2, "follower_batch": 8},
    **{"curvature_trajectories": 3, "curvature_rows": 8},
)
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
    cls: type,
    obs_dim: int = OBS_DIM,
    action_dim: int = ACTION_DIM,
    hidden_dims: tuple[int, ...] = (6, 5),
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
    dropout: float | None = None,
    num_critics: int | None = None,
    auto_alpha: bool = True,
    weight_hidden_dims: tuple[int, ...] = (4, 3),
    weight_input: str = "sas",
    rate: float = 1e-3,
    lib: SimpleNamespace | None = None,
    **options: Any,
) -> Any:
    """A policy of any class, of this package's or another library's parts.

    Whatever the constructor names is made, unless it is among the options; one optimiser for each
    network. Slow copies and what starts at zero are moved, so that nothing starts alike.

    Args:
        num_critics: of an ensemble of critics.
        lib: a library under the kit's names; none means this package, with a generator.
        options: arguments of the constructor; `weighting_optim` takes parameters.
    """
    wanted, names = inspect.signature(cls).parameters, lib or OURS

    def critic() -> nn.Module:
        return names.Critic(names.MLP(obs_dim + action_dim, hidden_dims))

    def actor() -> nn.Module:
        backbone, width = names.MLP(obs_dim, hidden_dims, dropout_rate=dropout), hidden_dims[-1]
        if cls.__name__ in DETERMINISTIC:
            return names.Actor(backbone, action_dim, options.get("max_action", 1.0))
        if "critic_v" in wanted:
            head = names.DiagGaussian(width, action_dim)
        else:
            spread = dict(unbounded=True, conditioned_sigma=True)
            head = names.TanhDiagGaussian(width, action_dim, **spread)
        return names.ActorProb(backbone, head)

    def critics() -> nn.Module:
        if "dynamics" in wanted:
            return nn.ModuleList(critic() for _ in range(num_critics or 2))
        count = num_critics or 4
        return names.EnsembleCritic(obs_dim, action_dim, hidden_dims, num_ensemble=count)

    makers: dict[str, Callable[[], nn.Module]] = {
        **{"actor": actor, "critics": critics},
        **dict.fromkeys(("critic1", "critic2", "critic_q1", "critic_q2"), critic),
        "critic_v": lambda: names.Critic(names.MLP(obs_dim, hidden_dims)),
        "behavior_policy": lambda: names.VAE(obs_dim, action_dim, 7, 4, 1.0),
        "weighting_net": lambda: WeightingNet(
            obs_dim, action_dim, weight_hidden_dims, weight_input=weight_input
        ),
    }
    if "dynamics" in wanted and "dynamics" not in options:
        options["dynamics"] = _dynamics_for(wanted, obs_dim, action_dim, dtype, seed)
    torch.manual_seed(seed)
    parts = {
        name: options.pop(name, None) or make().to(dtype)
        for name, make in makers.items()
        if name in wanted
    }
    parameters: dict[str, Any] = {name: part.parameters() for name, part in parts.items()}
    if "dynamics" in wanted:
        parameters["dynamics_adv"] = options["dynamics"].model.parameters()
        parameters["leader"] = list(parts["actor"].parameters())
    parameters["weighting"] = parameters.pop("weighting_net", ())
    for name in wanted:
        if name.endswith("_optim") and name not in options:
            parts[name] = adam(parameters[name.removesuffix("_optim")], rate)
    if callable(options.get("weighting_optim")):
        options["weighting_optim"] = options["weighting_optim"](parameters["weighting"])
    defaults: dict[str, Any] = {**SMALL, "action_space": make_box(action_dim), "game": SMALL_GAME}
    if auto_alpha and cls.__name__ not in DETERMINISTIC:
        defaults["alpha"] = temperature(dtype, rate, action_dim)
    defaults = {name: value for name, value in defaults.items() if name in wanted}
    if lib is None:
        defaults["generator"] = generator(seed + 2)
    return unsettle(cls(**parts, **defaults | options).to(dtype))  # what the constructor adds too


def _dynamics_for(wanted: Any, obs_dim: int, action_dim: int, *how: Any) -> EnsembleDynamics:
    """A simulator that the constructor of these parameters takes."""
    dtype, seed = how
    many = "critics" in wanted  # MOBILE asks every elite
    sizes = dict(members=4, elites=3) if many else {}
    weighted = "weighting_net" in wanted
    dynamics = make_dynamics(
        obs_dim, action_dim, dtype=dtype, seed=seed, weighted=weighted, **sizes
    )
    if many:
        dynamics.model.set_elites([3, 0, 2])
    return dynamics


def adam(parameters: Any, rate: float = 1e-3) -> torch.optim.Adam:
    return make_adam([p for p in parameters if p.requires_grad], rate)


def temperature(
    dtype: torch.dtype = FLOAT64, rate: float = 1e-3, action_dim: int = ACTION_DIM
) -> tuple[float, torch.Tensor, torch.optim.Optimizer]:
    """What tunes alpha."""
    log_alpha = torch.zeros(1, dtype=dtype, requires_grad=True)
    return -float(action_dim), log_alpha, adam([log_alpha], rate)


@torch.no_grad()
def unsettle(policy: Any) -> Any:
    """Move slow copies off the networks they start as, and what starts at zero off that."""
    source = generator(77)
    for name, p in policy.named_parameters():
        if "_old." in name or not p.any():
            p.add_(0.3 * torch.randn(p.shape, generator=source))
    return policy


def make_box(action_dim: int = ACTION_DIM, low: float = -1.0, high: float = 1.0) -> Any:
    """What policies read of an action space."""
    box = SimpleNamespace(low=np.full(action_dim, low), high=np.full(action_dim, high))
    box.shape = (action_dim,)
    return box
