"""Builders of the model-free algorithms."""

from __future__ import annotations

from typing import Any

from torch import nn

from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.experiment.algorithms import (
    BCConfig,
    CQLConfig,
    EDACConfig,
    IQLConfig,
    MCQConfig,
    TD3BCConfig,
)
from offlinerlkit_romi.experiment.build import (
    MAX_ACTION,
    Builder,
    Setting,
    critic,
    sac_arguments,
    soft_arguments,
    twin_critics,
)
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.modules import Actor, ActorProb, DiagGaussian, EnsembleCritic
from offlinerlkit_romi.nets import MLP, VAE, EnsembleLinear
from offlinerlkit_romi.policy import (
    BCPolicy,
    CQLPolicy,
    EDACPolicy,
    IQLPolicy,
    MCQPolicy,
    TD3BCPolicy,
)
from offlinerlkit_romi.utils.noise import GaussianNoise


def cql_arguments(config: CQLConfig, setting: Setting) -> dict[str, Any]:
    """What CQL and COMBO share."""
    return sac_arguments(config, setting) | {
        "action_space": setting.action_space,
        "cql_weight": config.cql_weight,
        "temperature": config.temperature,
        "max_q_backup": config.max_q_backup,
        "deterministic_backup": config.deterministic_backup,
        "with_lagrange": config.with_lagrange,
        "lagrange_threshold": config.lagrange_threshold,
        "cql_alpha_lr": config.cql_alpha_lr,
        "num_repeart_actions": config.num_repeat_actions,
        "compat": config.compat,
    }


def _build_cql(config: CQLConfig, setting: Setting) -> CQLPolicy:
    return CQLPolicy(**cql_arguments(config, setting))


def _build_iql(config: IQLConfig, setting: Setting) -> IQLPolicy:
    nets: dict[str, Any] = {
        "actor": _iql_actor(config, setting),
        "critic_q1": critic("critic_q1", config, setting),
        "critic_q2": critic("critic_q2", config, setting),
        "critic_v": critic("critic_v", config, setting, with_action=False),
    }
    rates = {
        "actor": config.actor_lr,
        "critic_q1": config.critic_q_lr,
        "critic_q2": config.critic_q_lr,
        "critic_v": config.critic_v_lr,
    }
    optims: dict[str, Any] = {}
    for name, net in nets.items():
        with setting.generators.initialisation(f"{name}/orthogonal"):
            net.apply(_orthogonal)
        optims[f"{name}_optim"] = make_adam(net.parameters(), rates[name])
    return IQLPolicy(
        **nets,
        **optims,
        action_space=setting.action_space,
        tau=config.tau,
        gamma=config.gamma,
        expectile=config.expectile,
        temperature=config.temperature,
        generator=setting.generators.policy,
        compat=config.compat,
    )


def _iql_actor(config: IQLConfig, setting: Setting) -> ActorProb:
    """A Gaussian with a bounded mean and one free spread per action dimension (kit behaviour)."""
    with setting.generators.initialisation("actor"):
        backbone = MLP(setting.obs_dim, config.hidden_dims, dropout_rate=config.dropout_rate)
        head = DiagGaussian(
            backbone.output_dim,
            setting.action_dim,
            unbounded=False,
            conditioned_sigma=False,
            max_mu=MAX_ACTION,
        )
        return ActorProb(backbone, head, setting.device)


def _orthogonal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight, gain=2**0.5)
        nn.init.zeros_(module.bias)


def _build_edac(config: EDACConfig, setting: Setting) -> EDACPolicy:
    with setting.generators.initialisation("critics"):
        critics = EnsembleCritic(
            setting.obs_dim,
            setting.action_dim,
            config.hidden_dims,
            num_ensemble=config.num_critics,
            device=setting.device,
        )
        layers = [layer for layer in critics.model if isinstance(layer, EnsembleLinear)]
        for layer in layers[:-1]:
            nn.init.constant_(layer.bias, 0.1)
        for parameter in (layers[-1].weight, layers[-1].bias):
            nn.init.uniform_(parameter, -3e-3, 3e-3)
    return EDACPolicy(
        critics=critics,
        critics_optim=make_adam(critics.parameters(), config.critic_lr),
        tau=config.tau,
        gamma=config.gamma,
        max_q_backup=config.max_q_backup,
        deterministic_backup=config.deterministic_backup,
        eta=config.eta,
        compat=config.compat,
        **soft_arguments(config, setting),
    )


def _deterministic_actor(config: RunConfig, setting: Setting) -> Actor:
    with setting.generators.initialisation("actor"):
        backbone = MLP(setting.obs_dim, config.hidden_dims)
        return Actor(backbone, setting.action_dim, MAX_ACTION, setting.device)


def _build_td3bc(config: TD3BCConfig, setting: Setting) -> TD3BCPolicy:
    actor = _deterministic_actor(config, setting)
    return TD3BCPolicy(
        actor,
        actor_optim=make_adam(actor.parameters(), config.actor_lr),
        max_action=MAX_ACTION,
        exploration_noise=GaussianNoise(
            sigma=config.exploration_noise, generator=setting.generators.evaluation
        ),
        policy_noise=config.policy_noise,
        noise_clip=config.noise_clip,
        update_actor_freq=config.update_actor_freq,
        alpha=config.alpha,
        scaler=setting.obs_scaler,
        compat=config.compat,
        generator=setting.generators.policy,
        **twin_critics(config, setting),
    )


def _build_bc(config: BCConfig, setting: Setting) -> BCPolicy:
    actor = _deterministic_actor(config, setting)
    optim = make_adam(actor.parameters(), config.actor_lr)
    return BCPolicy(actor, optim, generator=setting.generators.policy, compat=config.compat)


def _build_mcq(config: MCQConfig, setting: Setting) -> MCQPolicy:
    with setting.generators.initialisation("behavior_policy"):
        behavior_policy = VAE(
            setting.obs_dim,
            setting.action_dim,
            config.vae_hidden_dim,
            config.vae_latent_dim or 2 * setting.action_dim,
            MAX_ACTION,
            setting.device,
        )
    return MCQPolicy(
        behavior_policy=behavior_policy,
        behavior_policy_optim=make_adam(behavior_policy.parameters(), config.behavior_policy_lr),
        lmbda=config.lmbda,
        num_sampled_actions=config.num_sampled_actions,
        compat=config.compat,
        **sac_arguments(config, setting, config.actor_dropout),
    )


BUILDERS: dict[type[RunConfig], Builder] = {
    CQLConfig: _build_cql,
    IQLConfig: _build_iql,
    EDACConfig: _build_edac,
    TD3BCConfig: _build_td3bc,
    BCConfig: _build_bc,
    MCQConfig: _build_mcq,
}
