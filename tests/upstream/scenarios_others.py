"""Ten updates of TD3, TD3+BC, behaviour cloning, MCQ and MOBILE, on small networks."""

from typing import Any

import numpy as np
import torch
from torch import nn

from tests.upstream.harness import Scenario, Steps
from tests.upstream.scenarios import (
    HIDDEN,
    A,
    Compat,
    Library,
    S,
    adam,
    dynamics,
    offline,
    online,
    soft_actor,
    temperature,
    twins,
    variant,
)

CODE = 2 * A


def deterministic_actor(lib: Library, max_action: float = 1.0) -> Any:
    return lib.Actor(lib.MLP(S, HIDDEN), A, max_action=max_action, device="cpu")


def deterministic_twins(lib: Library, max_action: float) -> dict[str, Any]:
    actor = deterministic_actor(lib, max_action)
    return twins(lib) | {"actor": actor, "actor_optim": adam(actor.parameters())}


def acting(policy: Any, steps: Steps) -> Steps:
    """The same steps, and the actions chosen after each."""
    obs = np.linspace(-1, 1, 4 * S, dtype=np.float32).reshape(4, S)
    for step in steps:
        yield {**step, "action": policy.select_action(obs, deterministic=True)}


def td3(lib: Library, compat: Compat, max_action: float = 1.0) -> tuple[Any, Steps]:
    policy = lib.TD3Policy(**deterministic_twins(lib, max_action), max_action=max_action, **compat)
    return policy, acting(policy, offline(policy))


def td3bc(
    lib: Library, compat: Compat, max_action: float = 1.0, **options: Any
) -> tuple[Any, Steps]:
    scaler = lib.StandardScaler(np.full((1, S), 0.2, np.float32), np.full((1, S), 1.5, np.float32))
    policy = lib.TD3BCPolicy(
        **deterministic_twins(lib, max_action),
        max_action=max_action,
        scaler=scaler,
        **options,
        **compat,
    )
    return policy, acting(policy, offline(policy))


def bc(lib: Library, compat: Compat) -> tuple[Any, Steps]:
    actor = deterministic_actor(lib)
    policy = lib.BCPolicy(actor, adam(actor.parameters()), **compat)
    return policy, acting(policy, offline(policy))


def seeded(steps: Steps) -> Steps:
    """Dropout draws inside torch, out of the tape's reach."""
    torch.manual_seed(3)
    yield from steps


def mcq(
    lib: Library, compat: Compat, dropout: float | None = None, **options: Any
) -> tuple[Any, Steps]:
    nets = twins(lib)
    if dropout is not None:
        actor = soft_actor(lib)
        actor.backbone = lib.MLP(S, HIDDEN, dropout_rate=dropout)
        nets |= {"actor": actor, "actor_optim": adam(actor.parameters())}
    vae = lib.VAE(S, A, 12, CODE, 1.0, "cpu")
    defaults = dict(alpha=temperature(), lmbda=0.7, num_sampled_actions=4)
    policy = lib.MCQPolicy(
        **nets,
        behavior_policy=vae,
        behavior_policy_optim=adam(vae.parameters()),
        **defaults | options,
        **compat,
    )
    policy.train()
    return policy, seeded(offline(policy))


def mobile(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    actor = soft_actor(lib)
    count = options.pop("critics", 2)
    critics = nn.ModuleList(lib.Critic(lib.MLP(S + A, HIDDEN), "cpu") for _ in range(count))
    policy = lib.MOBILEPolicy(
        dynamics(lib),
        actor,
        critics,
        adam(actor.parameters()),
        adam(critics.parameters()),
        **dict(alpha=temperature(), penalty_coef=1.5, num_samples=4) | options,
        **compat,
    )
    return policy, online(policy)


OTHERS: dict[str, Scenario] = {
    "td3": td3,
    "td3_wide": variant(td3, max_action=2.0),
    "td3bc": td3bc,
    "td3bc_wide": variant(td3bc, max_action=2.0, update_actor_freq=3, alpha=0.7),
    "bc": bc,
    "mcq": mcq,
    "mcq_dropout": variant(mcq, dropout=0.3),
    "mcq_fixed_alpha": variant(mcq, alpha=0.2, lmbda=0.9),
    "mobile": mobile,
    "mobile_deterministic": variant(mobile, deterministic_backup=True, critics=3),
    "mobile_max_q": variant(mobile, max_q_backup=True, alpha=0.1),
}
# stored for machines without the kit
OTHERS_GOLDEN = ("td3", "td3bc", "bc", "mcq", "mobile")
