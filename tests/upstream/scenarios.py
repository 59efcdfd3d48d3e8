"""Ten updates of every policy that SAC or its kind underlies, on small networks."""

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.engine import make_adam
from tests.upstream.harness import UPDATES, Scenario, Steps
from tests.upstream.tape import batches

S, A, B, HIDDEN, RATE = 3, 2, 16, (8, 8), 3e-3
Library = SimpleNamespace
Compat = dict[str, str]


def adam(params: Any) -> torch.optim.Adam:
    """The package's own, fused: the kit's `backward` lays gradients out as it needs."""
    return make_adam([p for p in params if p.requires_grad], RATE)


def box() -> Any:
    return SimpleNamespace(
        low=-np.ones(A, np.float32), high=np.ones(A, np.float32), shape=(A,), dtype=np.float32
    )


def temperature() -> tuple[float, torch.Tensor, torch.optim.Optimizer]:
    log_alpha = torch.zeros(1, requires_grad=True)
    return -float(A), log_alpha, adam([log_alpha])


def soft_actor(lib: Library) -> Any:
    backbone = lib.MLP(S, HIDDEN)
    head = lib.TanhDiagGaussian(HIDDEN[-1], A, unbounded=True, conditioned_sigma=True, max_mu=1.0)
    return lib.ActorProb(backbone, head, "cpu")


def twins(lib: Library) -> dict[str, Any]:
    """Actor, two critics and their optimisers, as the SAC family takes them."""
    nets = {"actor": soft_actor(lib)}
    nets |= {name: lib.Critic(lib.MLP(S + A, HIDDEN), "cpu") for name in ("critic1", "critic2")}
    return nets | {f"{name}_optim": adam(net.parameters()) for name, net in nets.items()}


def ends(obs: Any, action: Any, next_obs: Any) -> Any:
    return next_obs[..., :1] > 1.0


def dynamics(lib: Library, **kwargs: Any) -> Any:
    model = lib.EnsembleDynamicsModel(S, A, HIDDEN, 4, 3, weight_decays=[0.01, 0.02, 0.03])
    model.set_elites([3, 0, 2])
    scaler = lib.StandardScaler(
        np.linspace(-0.3, 0.4, S + A, dtype=np.float32)[None],
        np.linspace(0.8, 1.3, S + A, dtype=np.float32)[None],
    )
    return lib.EnsembleDynamics(model, adam(model.parameters()), scaler, ends, **kwargs)


def offline(policy: Any) -> Steps:
    for batch in batches(UPDATES, B, S, A):
        yield policy.learn(batch)


def online(policy: Any, horizon: int = 3) -> Steps:
    """A rollout and an update on real and model rows, again and again."""
    for batch in batches(UPDATES, B, S, A):
        made, info = policy.rollout(batch["observations"].numpy(), horizon)
        yield {**info, **{name: np.asarray(rows) for name, rows in made.items()}}
        names = ("observations", "next_observations", "actions", "rewards", "terminals")
        fake = {
            name: torch.as_tensor(np.asarray(rows), dtype=torch.float32)[-B // 2 :]
            for name, rows in zip(names, made.values(), strict=True)
        }
        yield policy.learn({"real": batch, "fake": fake})


class Script:
    """A buffer that hands out given batches in order."""

    def __init__(self) -> None:
        self._batches: Iterator[Any] = iter(batches(40, B, S, A, seed=5))

    def sample(self, batch_size: int) -> Any:
        return next(self._batches)


def adversarial(policy: Any) -> Steps:
    yield policy.update_dynamics(Script())
    yield from online(policy)


def sac(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    policy = lib.SACPolicy(**twins(lib), **{"alpha": temperature()} | options, **compat)
    return policy, offline(policy)


def cql(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    defaults = dict(alpha=temperature(), cql_weight=5.0, with_lagrange=False, num_repeart_actions=4)
    policy = lib.CQLPolicy(**twins(lib), action_space=box(), **defaults | options, **compat)
    return policy, offline(policy)


def iql(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    head = lib.DiagGaussian(HIDDEN[-1], A, unbounded=False, conditioned_sigma=False, max_mu=1.0)
    nets = {"actor": lib.ActorProb(lib.MLP(S, HIDDEN), head, "cpu")}
    nets |= {f"critic_q{i}": lib.Critic(lib.MLP(S + A, HIDDEN), "cpu") for i in (1, 2)}
    nets["critic_v"] = lib.Critic(lib.MLP(S, HIDDEN), "cpu")
    optims = {f"{name}_optim": adam(net.parameters()) for name, net in nets.items()}
    defaults = dict(expectile=0.7, temperature=3.0)
    policy = lib.IQLPolicy(**nets, **optims, action_space=box(), **defaults | options, **compat)
    return policy, offline(policy)


def edac(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    actor, critics = soft_actor(lib), lib.EnsembleCritic(S, A, HIDDEN, num_ensemble=5)
    policy = lib.EDACPolicy(
        actor,
        critics,
        adam(actor.parameters()),
        adam(critics.parameters()),
        **dict(alpha=temperature(), eta=1.0, deterministic_backup=False) | options,
        **compat,
    )
    return policy, offline(policy)


def mopo(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    model = dynamics(lib, penalty_coef=0.7, **options)
    policy = lib.MOPOPolicy(model, **twins(lib), alpha=temperature(), **compat)
    return policy, online(policy)


def combo(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    defaults = dict(alpha=temperature(), cql_weight=5.0, with_lagrange=False, num_repeart_actions=4)
    policy = lib.COMBOPolicy(
        dynamics(lib), **twins(lib), action_space=box(), **defaults | options, **compat
    )
    return policy, online(policy)


def rambo(lib: Library, compat: Compat, **options: Any) -> tuple[Any, Steps]:
    model = dynamics(lib)
    policy = lib.RAMBOPolicy(
        model,
        **twins(lib),
        dynamics_adv_optim=adam(model.model.parameters()),
        alpha=temperature(),
        **dict(adv_weight=0.3, adv_train_steps=10, adv_rollout_batch_size=B) | options,
        **compat,
    )
    return policy, adversarial(policy)


def cloned(policy: Any) -> Steps:
    """Behaviour cloning on rows that do not fill the last batch."""
    with TemporaryDirectory() as folder:
        logger = SimpleNamespace(log=lambda line: None, model_dir=folder)
        data = {name: x.numpy() for name, x in batches(1, B, S, A)[0].items()}
        policy.pretrain(data, 3, 5, RATE, logger)
    yield {}


def rambo_cloned(lib: Library, compat: Compat) -> tuple[Any, Steps]:
    policy, _ = rambo(lib, compat)
    return policy, cloned(policy)


def variant(base: Any, **options: Any) -> Scenario:
    return lambda lib, compat: base(lib, compat, **options)


SCENARIOS: dict[str, Scenario] = {
    "sac": sac,
    "sac_fixed_alpha": variant(sac, alpha=0.2),
    "cql": cql,
    "cql_lagrange": variant(cql, with_lagrange=True, lagrange_threshold=2.0, temperature=0.7),
    "cql_max_q": variant(cql, max_q_backup=True),
    "cql_soft_backup": variant(cql, deterministic_backup=False, cql_weight=0.5),
    "iql": iql,
    "edac": edac,
    "edac_max_q": variant(edac, max_q_backup=True, eta=5.0),
    "edac_plain": variant(edac, eta=0.0, deterministic_backup=True, alpha=0.1),
    "mopo": mopo,
    "mopo_pairwise": variant(mopo, uncertainty_mode="pairwise-diff"),
    "combo": combo,
    "combo_model": variant(combo, rho_s="model", uniform_rollout=True),
    "combo_lagrange": variant(combo, with_lagrange=True),
    "rambo": rambo,
    "rambo_cloned": rambo_cloned,
    "rambo_entropy": variant(rambo, include_ent_in_adv=True, adv_rollout_length=3),
}
# stored for machines without the kit; the rest is compared only where it is installed
GOLDEN = ("sac", "cql", "cql_lagrange", "iql", "edac", "mopo", "combo", "rambo")
