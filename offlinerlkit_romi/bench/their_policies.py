"""A checkout's policies, wired from this package's configurations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.bench.workload import Workload
from offlinerlkit_romi.experiment.buffers import normalizes_observations

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
MAX_ACTION = 1.0
Sizes = tuple[int, int]  # S, A


def soft_actor(
    lib: Checkout, sizes: Sizes, hidden_dims: Any, device: str, dropout: float | None = None
) -> Any:
    """A tanh-Gaussian actor whose spread depends on the state."""
    # only actors with dropout name it: the released ROMI's network does not know the word
    options = {} if dropout is None else {"dropout_rate": dropout}
    backbone = lib.MLP(input_dim=sizes[0], hidden_dims=list(hidden_dims), **options)
    head = lib.TanhDiagGaussian(
        latent_dim=backbone.output_dim,
        output_dim=sizes[1],
        unbounded=True,
        conditioned_sigma=True,
        max_mu=MAX_ACTION,
    )
    return lib.ActorProb(backbone, head, device)


def critic(lib: Checkout, sizes: Sizes, hidden_dims: Any, device: str) -> Any:
    """A critic of states and actions; of states alone for A = 0."""
    backbone = lib.MLP(input_dim=sum(sizes), hidden_dims=list(hidden_dims))
    return lib.Critic(backbone, device)


def adam(net: nn.Module, lr: float) -> torch.optim.Optimizer:
    """As the checkouts' scripts make it."""
    return torch.optim.Adam(net.parameters(), lr=lr)


class PolicyBuilder:
    """Wires one policy of a checkout from this package's configuration."""

    def __init__(self, lib: Checkout, workload: Workload, config: Any) -> None:
        self.lib, self.workload, self.config = lib, workload, config
        self.device = str(workload.device)
        task = workload.task
        self.sizes = task.obs_dim, task.action_dim
        self.box = SimpleNamespace(
            low=np.full(task.action_dim, -MAX_ACTION, np.float32),
            high=np.full(task.action_dim, MAX_ACTION, np.float32),
            shape=(task.action_dim,),
            dtype=np.float32,
        )

    def build(self, algo: str) -> Any:
        """The policy of `POLICIES[algo]`, its model included."""
        policy = getattr(self, f"_{algo}")()
        return policy.to(self.device)

    def _soft(self, dropout: float | None = None) -> dict[str, Any]:
        actor = soft_actor(self.lib, self.sizes, self.config.hidden_dims, self.device, dropout)
        log_alpha = torch.zeros(1, requires_grad=True, device=self.device)
        alpha_optim = torch.optim.Adam([log_alpha], lr=self.config.alpha_lr)
        return {
            "actor": actor,
            "actor_optim": adam(actor, self.config.actor_lr),
            "alpha": (-float(self.sizes[1]), log_alpha, alpha_optim),
        }

    def _critic(self, obs_dim: int, action_dim: int) -> Any:
        return critic(self.lib, (obs_dim, action_dim), self.config.hidden_dims, self.device)

    def _twins(self) -> dict[str, Any]:
        made: dict[str, Any] = {"tau": self.config.tau, "gamma": self.config.gamma}
        for name in ("critic1", "critic2"):
            made[name] = self._critic(*self.sizes)
            made[f"{name}_optim"] = adam(made[name], self.config.critic_lr)
        return made

    def _dynamics(self, **options: Any) -> Any:
        config, lib = self.config, self.lib
        model = lib.EnsembleDynamicsModel(
            obs_dim=self.sizes[0],
            action_dim=self.sizes[1],
            hidden_dims=config.dynamics_hidden_dims,
            num_ensemble=config.n_ensemble,
            num_elites=config.n_elites,
            weight_decays=config.dynamics_weight_decay,
            device=self.device,
        )
        rule = lib.get_termination_fn(task=self.workload.task.name)
        if normalizes_observations(config):
            rule = self._unnormalized(rule)
        optim = adam(model, config.dynamics_lr)
        return lib.EnsembleDynamics(model, optim, lib.StandardScaler(), rule, **options)

    def _unnormalized(self, rule: Any) -> Any:
        obs = self.workload.dataset.observations
        return self.lib.obs_unnormalization(rule, obs.mean(0), obs.std(0))

    def _adversarial(self, dynamics: Any) -> dict[str, Any]:
        config = self.config
        return {
            "dynamics_adv_optim": adam(dynamics.model, config.dynamics_adv_lr),
            "adv_train_steps": config.rollout_length,
            "adv_rollout_batch_size": config.adv_batch_size,
            "adv_rollout_length": config.rollout_length,
            "device": self.device,
        }

    def _romi(self) -> Any:
        dynamics = self._dynamics()
        net = self.lib.hyper(*self.sizes).to(self.device)
        return self.lib.ROMIPolicy(
            dynamics,
            hyper_net=net,
            hyper_optim=adam(net, self.config.weight_lr),
            epsilon=self.config.xi,
            **self._twins(),
            **self._soft(),
            **self._adversarial(dynamics),
        )

    def _rambo(self) -> Any:
        dynamics = self._dynamics()
        return self.lib.RAMBOPolicy(
            dynamics,
            adv_weight=self.config.adv_weight,
            **self._twins(),
            **self._soft(),
            **self._adversarial(dynamics),
        )

    def _mopo(self) -> Any:
        dynamics = self._dynamics(penalty_coef=self.config.penalty_coef)
        return self.lib.MOPOPolicy(dynamics, **self._twins(), **self._soft())

    def _conservative(self) -> dict[str, Any]:
        config = self.config
        return {
            "action_space": self.box,
            "cql_weight": config.cql_weight,
            "temperature": config.temperature,
            "max_q_backup": config.max_q_backup,
            "deterministic_backup": config.deterministic_backup,
            "with_lagrange": config.with_lagrange,
            "num_repeart_actions": config.num_repeat_actions,
            **self._twins(),
            **self._soft(),
        }

    def _cql(self) -> Any:
        return self.lib.CQLPolicy(**self._conservative())

    def _combo(self) -> Any:
        return self.lib.COMBOPolicy(
            self._dynamics(), rho_s=self.config.rho_s, **self._conservative()
        )

    def _mobile(self) -> Any:
        config = self.config
        critics = nn.ModuleList(self._critic(*self.sizes) for _ in range(config.num_q_ensemble))
        return self.lib.MOBILEPolicy(
            self._dynamics(),
            critics=critics,
            critics_optim=adam(critics, config.critic_lr),
            penalty_coef=config.penalty_coef,
            num_samples=config.num_samples,
            deterministic_backup=config.deterministic_backup,
            **self._soft(),
        )

    def _edac(self) -> Any:
        config = self.config
        critics = self.lib.EnsembleCritic(
            *self.sizes, config.hidden_dims, num_ensemble=config.num_critics, device=self.device
        )
        return self.lib.EDACPolicy(
            critics=critics,
            critics_optim=adam(critics, config.critic_lr),
            max_q_backup=config.max_q_backup,
            deterministic_backup=config.deterministic_backup,
            eta=config.eta,
            **self._soft(),
        )

    def _iql(self) -> Any:
        config, lib, (obs_dim, action_dim) = self.config, self.lib, self.sizes
        backbone = lib.MLP(
            input_dim=obs_dim,
            hidden_dims=list(config.hidden_dims),
            dropout_rate=config.dropout_rate,
        )
        head = lib.DiagGaussian(
            latent_dim=backbone.output_dim,
            output_dim=action_dim,
            unbounded=False,
            conditioned_sigma=False,
            max_mu=MAX_ACTION,
        )
        nets = {
            "actor": lib.ActorProb(backbone, head, self.device),
            "critic_q1": self._critic(obs_dim, action_dim),
            "critic_q2": self._critic(obs_dim, action_dim),
            "critic_v": self._critic(obs_dim, 0),
        }
        optims = {f"{name}_optim": adam(net, 3e-4) for name, net in nets.items()}
        return lib.IQLPolicy(
            **nets,
            **optims,
            action_space=self.box,
            expectile=config.expectile,
            temperature=config.temperature,
        )

    def _deterministic_actor(self) -> Any:
        backbone = self.lib.MLP(input_dim=self.sizes[0], hidden_dims=list(self.config.hidden_dims))
        return self.lib.Actor(backbone, self.sizes[1], max_action=MAX_ACTION, device=self.device)

    def _td3bc(self) -> Any:
        config, actor = self.config, self._deterministic_actor()
        return self.lib.TD3BCPolicy(
            actor=actor,
            actor_optim=adam(actor, config.actor_lr),
            max_action=MAX_ACTION,
            policy_noise=config.policy_noise,
            noise_clip=config.noise_clip,
            update_actor_freq=config.update_actor_freq,
            alpha=config.alpha,
            **self._twins(),
        )

    def _bc(self) -> Any:
        actor = self._deterministic_actor()
        return self.lib.BCPolicy(actor, adam(actor, self.config.actor_lr))

    def _mcq(self) -> Any:
        config, (obs_dim, action_dim) = self.config, self.sizes
        vae = self.lib.VAE(
            input_dim=obs_dim,
            output_dim=action_dim,
            hidden_dim=config.vae_hidden_dim,
            latent_dim=config.vae_latent_dim or 2 * action_dim,
            max_action=MAX_ACTION,
            device=self.device,
        )
        return self.lib.MCQPolicy(
            behavior_policy=vae,
            behavior_policy_optim=adam(vae, config.behavior_policy_lr),
            lmbda=config.lmbda,
            num_sampled_actions=config.num_sampled_actions,
            **self._twins(),
            **self._soft(config.actor_dropout),
        )
