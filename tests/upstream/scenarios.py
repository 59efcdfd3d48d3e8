"""Ten updates of every policy, on small networks, of either library's classes."""

import inspect
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.support.policies import adam, make_policy
from tests.upstream.harness import UPDATES, Scenario, Steps
from tests.upstream.tape import batches

S, A, B, HIDDEN, RATE = 3, 2, 16, (8, 8), 3e-3
Library = SimpleNamespace
NAMES = ("observations", "next_observations", "actions", "rewards", "terminals")


def ends(obs: Any, action: Any, next_obs: Any) -> Any:
    return next_obs[..., :1] > 1.0


def dynamics(lib: Library, obs_dim: int, action_dim: int, **kwargs: Any) -> Any:
    sizes, width = (obs_dim, action_dim), obs_dim + action_dim
    model = lib.EnsembleDynamicsModel(*sizes, HIDDEN, 4, 3, weight_decays=[0.01, 0.02, 0.03])
    model.set_elites([3, 0, 2])
    scaler = lib.StandardScaler(
        np.linspace(-0.3, 0.4, width, dtype=np.float32)[None],
        np.linspace(0.8, 1.3, width, dtype=np.float32)[None],
    )
    return lib.EnsembleDynamics(model, adam(model.parameters(), RATE), scaler, ends, **kwargs)


def build(
    lib: Library, kind: str, sizes: tuple[int, int] = (S, A), model: Any = None, **options: Any
) -> Any:
    """A policy of the library's.

    Args:
        sizes: of observations and actions.
        model: options of the dynamics.
        options: the policy's.
    """
    cls = getattr(lib, f"{kind}Policy")
    wanted = inspect.signature(cls).parameters
    if "dynamics" in wanted:
        options["dynamics"] = dynamics(lib, *sizes, **(model or {}))
    if "behavior_policy" in wanted:
        options["behavior_policy"] = lib.VAE(*sizes, 12, 2 * sizes[1], 1.0, "cpu")
    if kind == "TD3BC":
        mean, std = (np.full((1, sizes[0]), x, np.float32) for x in (0.2, 1.5))
        options["scaler"] = lib.StandardScaler(mean, std)
    return make_policy(cls, *sizes, HIDDEN, torch.float32, rate=RATE, lib=lib, **options)


def offline(policy: Any) -> Steps:
    for batch in batches(UPDATES, B, S, A):
        yield policy.learn(batch)


def acting(policy: Any) -> Steps:
    """The same steps, and the actions chosen after each."""
    obs = np.linspace(-1, 1, 4 * S, dtype=np.float32).reshape(4, S)
    for step in offline(policy):
        yield {**step, "action": policy.select_action(obs, deterministic=True)}


def dropping(policy: Any) -> Steps:
    """Dropout draws inside torch, out of the tape's reach."""
    policy.train()
    torch.manual_seed(3)
    yield from offline(policy)


def online(policy: Any, horizon: int = 3) -> Steps:
    """A rollout and an update on real and model rows, again and again."""
    for batch in batches(UPDATES, B, S, A):
        made, info = policy.rollout(batch["observations"].numpy(), horizon)
        yield {**info, **{name: np.asarray(rows) for name, rows in made.items()}}
        fake = {
            name: torch.as_tensor(np.asarray(rows), dtype=torch.float32)[-B // 2 :]
            for name, rows in zip(NAMES, made.values(), strict=True)
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


def cloned(policy: Any) -> Steps:
    """Behaviour cloning on rows that do not fill the last batch."""
    with TemporaryDirectory() as folder:
        logger = SimpleNamespace(log=lambda line: None, model_dir=folder)
        data = {name: x.numpy() for name, x in batches(1, B, S, A)[0].items()}
        policy.pretrain(data, 3, 5, RATE, logger)
    yield {}


def scenario(kind: str, steps: Callable[[Any], Steps], **options: Any) -> Scenario:
    def built(lib: Library, compat: dict[str, str], **sizes: Any) -> tuple[Any, Steps]:
        policy = build(lib, kind, **options, **compat, **sizes)
        return policy, steps(policy)

    return built


CQL = dict(cql_weight=5.0, with_lagrange=False, num_repeart_actions=4)
EDAC = dict(eta=1.0, deterministic_backup=False, num_critics=5)
RAMBO = dict(adv_weight=0.3, adv_train_steps=10, adv_rollout_batch_size=B)
MCQ = dict(lmbda=0.7, num_sampled_actions=4)
MOBILE = dict(penalty_coef=1.5, num_samples=4)
PENALTY, PAIRWISE = dict(penalty_coef=0.7), dict(uncertainty_mode="pairwise-diff")
LAGRANGE = dict(with_lagrange=True, lagrange_threshold=2.0, temperature=0.7)

SCENARIOS: dict[str, Scenario] = {
    "sac": scenario("SAC", offline),
    "sac_fixed_alpha": scenario("SAC", offline, alpha=0.2),
    "cql": scenario("CQL", offline, **CQL),
    "cql_lagrange": scenario("CQL", offline, **CQL | LAGRANGE),
    "cql_max_q": scenario("CQL", offline, max_q_backup=True, **CQL),
    "cql_soft_backup": scenario(
        "CQL", offline, **CQL | dict(deterministic_backup=False, cql_weight=0.5)
    ),
    "iql": scenario("IQL", offline, expectile=0.7, temperature=3.0),
    "edac": scenario("EDAC", offline, **EDAC),
    "edac_max_q": scenario("EDAC", offline, **EDAC | dict(max_q_backup=True, eta=5.0)),
    "edac_plain": scenario(
        "EDAC", offline, **EDAC | dict(eta=0.0, deterministic_backup=True, alpha=0.1)
    ),
    "mopo": scenario("MOPO", online, model=PENALTY),
    "mopo_pairwise": scenario(
        "MOPO", online, model=dict(uncertainty_mode="pairwise-diff", **PENALTY)
    ),
    "combo": scenario("COMBO", online, **CQL),
    "combo_model": scenario("COMBO", online, rho_s="model", uniform_rollout=True, **CQL),
    "combo_lagrange": scenario("COMBO", online, **CQL | dict(with_lagrange=True)),
    "rambo": scenario("RAMBO", adversarial, **RAMBO),
    "rambo_cloned": scenario("RAMBO", cloned, **RAMBO),
    "rambo_entropy": scenario(
        "RAMBO", adversarial, include_ent_in_adv=True, adv_rollout_length=3, **RAMBO
    ),
    "td3": scenario("TD3", acting),
    "td3_wide": scenario("TD3", acting, max_action=2.0),
    "td3bc": scenario("TD3BC", acting),
    "td3bc_wide": scenario("TD3BC", acting, max_action=2.0, update_actor_freq=3, alpha=0.7),
    "bc": scenario("BC", acting),
    "mcq": scenario("MCQ", dropping, **MCQ),
    "mcq_dropout": scenario("MCQ", dropping, dropout=0.3, **MCQ),
    "mcq_fixed_alpha": scenario("MCQ", dropping, **MCQ | dict(alpha=0.2, lmbda=0.9)),
    "mobile": scenario("MOBILE", online, **MOBILE),
    "mobile_deterministic": scenario(
        "MOBILE", online, deterministic_backup=True, num_critics=3, **MOBILE
    ),
    "mobile_max_q": scenario("MOBILE", online, max_q_backup=True, alpha=0.1, **MOBILE),
}
# stored for machines without the kit; the rest is compared only where it is installed
GOLDEN = (
    *("sac", "cql", "cql_lagrange", "iql", "edac", "mopo", "combo", "rambo"),
    *("td3", "td3bc", "bc", "mcq", "mobile"),
)
