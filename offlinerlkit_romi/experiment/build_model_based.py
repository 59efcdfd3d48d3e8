"""Builders of the model-based algorithms."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from offlinerlkit_romi.dynamics import (
    BaseDynamics,
    EnsembleDynamics,
    MujocoOracleDynamics,
    WeightedEnsembleDynamics,
)
from offlinerlkit_romi.dynamics.count_dynamics import CountEnsembleDynamics
from offlinerlkit_romi.dynamics.ensemble_dynamics import RewardFn
from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import (
    COMBOConfig,
    CountMORLConfig,
    KitConfig,
    MOBILEConfig,
    MOPOConfig,
    RAMBOConfig,
    ROMIConfig,
)
from offlinerlkit_romi.experiment.build import (
    Builder,
    Setting,
    critic,
    sac_arguments,
    soft_arguments,
    trainable,
)
from offlinerlkit_romi.experiment.build_model_free import cql_arguments
from offlinerlkit_romi.experiment.config import AdversarialConfig, ModelBasedConfig, RunConfig
from offlinerlkit_romi.experiment.rewards import known_reward_of, reward_map
from offlinerlkit_romi.modules import EnsembleDynamicsModel, WeightingNet
from offlinerlkit_romi.modules.hash_coder import HashCoder
from offlinerlkit_romi.policy import (
    COMBOPolicy,
    MOBILEPolicy,
    MOPOPolicy,
    RAMBOPolicy,
    ROMIPolicy,
)
from offlinerlkit_romi.policy.model_based.romi import INNER
from offlinerlkit_romi.utils.scaler import StandardScaler
from offlinerlkit_romi.utils.termination_fns import Rule, get_termination_fn, obs_unnormalization


def _build_mopo(config: MOPOConfig, setting: Setting) -> MOPOPolicy:
    dynamics: BaseDynamics
    if config.dynamics == "oracle":
        dynamics = _oracle(config, setting)
    else:
        dynamics = _dynamics(
            EnsembleDynamics,
            config,
            setting,
            penalty_coef=config.penalty_coef,
            uncertainty_mode=config.uncertainty_mode,
        )
    return MOPOPolicy(dynamics, **sac_arguments(config, setting), compat=config.compat)


def _build_rambo(config: RAMBOConfig, setting: Setting) -> RAMBOPolicy:
    dynamics = _dynamics(EnsembleDynamics, config, setting)
    return RAMBOPolicy(
        dynamics,
        dynamics_adv_optim=make_adam(trainable(dynamics.model), config.dynamics_adv_lr),
        adv_weight=config.adv_weight,
        adv_reduction=config.adv_reduction,
        compat=config.compat,
        **sac_arguments(config, setting),
        **_adversarial_arguments(config, setting),
    )


def _build_romi(config: ROMIConfig, setting: Setting) -> ROMIPolicy:
    dynamics = cast(WeightedEnsembleDynamics, _dynamics(WeightedEnsembleDynamics, config, setting))
    with setting.generators.initialisation("weighting_net"):
        weighting_net = WeightingNet(
            setting.obs_dim,
            setting.action_dim,
            hidden_dims=config.weight_hidden_dims,
            weight_range=config.weight_range,
            weight_input=config.weight_input,
            device=setting.device,
        )
    inner, _ = INNER[config.inner_optimizer]
    return ROMIPolicy(
        dynamics,
        weighting_net=weighting_net,
        dynamics_adv_optim=inner(trainable(dynamics.model), lr=config.dynamics_adv_lr),
        weighting_optim=make_adam(weighting_net.parameters(), config.weight_lr),
        xi=config.xi,
        num_perturbations=config.num_perturbations,
        variant=config.variant,
        uncertainty_set=config.uncertainty_set,
        preconditioner=config.preconditioner,
        reward_likelihood=config.reward_likelihood,
        **sac_arguments(config, setting),
        **_adversarial_arguments(config, setting),
    )


def _build_combo(config: COMBOConfig, setting: Setting) -> COMBOPolicy:
    return COMBOPolicy(
        _dynamics(EnsembleDynamics, config, setting),
        uniform_rollout=config.uniform_rollout,
        rho_s=config.rho_s,
        **cql_arguments(config, setting),
    )


def _build_mobile(config: MOBILEConfig, setting: Setting) -> MOBILEPolicy:
    names = [f"critic{number}" for number in range(1, config.num_q_ensemble + 1)]
    critics = nn.ModuleList(critic(name, config, setting) for name in names)
    return MOBILEPolicy(
        _dynamics(EnsembleDynamics, config, setting),
        critics=critics,
        critics_optim=make_adam(critics.parameters(), config.critic_lr),
        tau=config.tau,
        gamma=config.gamma,
        penalty_coef=config.penalty_coef,
        num_samples=config.num_samples,
        deterministic_backup=config.deterministic_backup,
        max_q_backup=config.max_q_backup,
        clamp_targets=config.clamp_targets,
        compat=config.compat,
        **soft_arguments(config, setting),
    )


def _build_count_morl(config: CountMORLConfig, setting: Setting) -> MOPOPolicy:
    with setting.generators.initialisation("coder"):
        coder = HashCoder(
            config.dynamics_hidden_dims[1],
            setting.obs_dim + setting.action_dim,
            config.num_bits,
            config.n_ensemble,
            config.decoder_out,
            setting.device,
        )
    dynamics = _dynamics(
        CountEnsembleDynamics,
        config,
        setting,
        penalty_coef=config.penalty_coef,
        count_mode=config.count_mode,
        count_coef=config.count_coef,
        coder=coder,
        coder_optim=make_adam(trainable(coder), config.coder_lr),
    )
    return MOPOPolicy(dynamics, **sac_arguments(config, setting))


BUILDERS: dict[type[RunConfig], Builder] = {
    MOPOConfig: _build_mopo,
    RAMBOConfig: _build_rambo,
    ROMIConfig: _build_romi,
    COMBOConfig: _build_combo,
    MOBILEConfig: _build_mobile,
    CountMORLConfig: _build_count_morl,
}


def _adversarial_arguments(config: AdversarialConfig, setting: Setting) -> dict[str, Any]:
    return {
        "adv_train_steps": config.adv_train_steps,
        "adv_rollout_batch_size": config.adv_batch_size,
        "adv_rollout_length": config.rollout_length,
        "include_ent_in_adv": config.include_ent_in_adv,
        "scaler": setting.obs_scaler,
        "device": setting.device,
    }


def _dynamics(
    kind: type[EnsembleDynamics], config: ModelBasedConfig, setting: Setting, **options: Any
) -> EnsembleDynamics:
    with setting.generators.initialisation("dynamics"):
        model = EnsembleDynamicsModel(
            setting.obs_dim,
            setting.action_dim,
            config.dynamics_hidden_dims,
            num_ensemble=config.n_ensemble,
            num_elites=config.n_elites,
            weight_decays=config.dynamics_weight_decay,
            device=setting.device,
        )
    dynamics = kind(
        model,
        make_adam(trainable(model), config.dynamics_lr),
        StandardScaler(),
        _on_policy_states(_termination(config, setting), setting),
        generator=setting.generators.model,
        **options,
    )
    dynamics.reward_fn = _known_reward(config, setting)
    return dynamics


def _oracle(config: ModelBasedConfig, setting: Setting) -> MujocoOracleDynamics:
    if setting.device.type != "cpu":
        raise UserError("--dynamics oracle steps MuJoCo on the CPU: give --device cpu")
    return MujocoOracleDynamics(
        make_bare_env(setting.task or config.task),
        _termination(config, setting),
        setting.obs_scaler,
        threads=torch.get_num_threads(),
        reward_map=reward_map(config),
    )


def _known_reward(config: ModelBasedConfig, setting: Setting) -> RewardFn | None:
    """The known reward of observations as the policy sees them, scaled as the data's rewards."""
    raw = known_reward_of(config, setting.task or config.task)
    if raw is None:
        return None
    reward_fn, (scale, bias) = _on_policy_states(raw, setting), reward_map(config)
    if (scale, bias) == (1.0, 0.0):
        return reward_fn
    return lambda obs, act, next_obs: reward_fn(obs, act, next_obs) * scale + bias


def _termination(config: ModelBasedConfig, setting: Setting) -> Rule:
    like_kit = isinstance(config, KitConfig) and config.compat == "kit"
    return get_termination_fn(
        setting.task or config.task, compat="kit" if like_kit else None, goal=setting.goal
    )


def plain_dynamics(config: ModelBasedConfig, setting: Setting) -> EnsembleDynamics:
    """A model of a configuration's size without penalty or count: it can read any one's weights."""
    return _dynamics(EnsembleDynamics, config, setting)


def _on_policy_states(function: Rule, setting: Setting) -> Rule:
    """A function of raw observations as one of observations as the policy sees them."""
    scaler = setting.obs_scaler
    if scaler is None or scaler.mu is None or scaler.std is None:
        return function
    return obs_unnormalization(function, scaler.mu, scaler.std)
