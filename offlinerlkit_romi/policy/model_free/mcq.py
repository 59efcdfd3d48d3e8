r"""MCQ: SAC whose critics also learn mild values for the policy's own actions.

Paper: Lyu et al., "Mildly Conservative Q-Learning for Offline Reinforcement Learning", arXiv
2206.04745. An action of the policy is worth at most the best of a few actions of a model of the
behaviour:

    lmbda E[(Q(s, a) - y)^2] + (1 - lmbda) E[(Q(s, a_pi) - min_c max_m Q'_c(s, a_m))^2]

The same as in OfflineRL-Kit but for speed: both terms of a critic share one pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from typing_extensions import Unpack

from offlinerlkit_romi.engine import descend
from offlinerlkit_romi.modules import twin_values
from offlinerlkit_romi.nets import VAE, own_dropout
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_free.sac import SACPolicy, critic_target
from offlinerlkit_romi.policy.soft_policy import Alpha

# codes of sampled behaviour actions stay where the decoder has seen data (BCQ's choice)
CODE_BOUND = 0.5


class OutOfData(NamedTuple):
    """The policy's actions and what they may be worth at most."""

    obs: torch.Tensor  # (2B, S): observations, then next observations
    action: torch.Tensor  # (2B, A)
    value: torch.Tensor  # (2B, 1)


def vae_loss(
    vae: nn.Module, obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Mean squared reconstruction error plus the mean over B and Z of the code's divergence.

    The divergence is a mean over the code's dimensions, not their sum: the authors' weighting.
    """
    reconstruction, mean, std = vae(obs, action, noise)
    assert reconstruction.shape == action.shape, (reconstruction.shape, action.shape)
    divergence = -0.5 * (1 + 2 * std.log() - mean.square() - std.square()).mean()
    return F.mse_loss(reconstruction, action) + divergence


@torch.no_grad()
def mild_value(
    vae: VAE, targets: tuple[nn.Module, nn.Module], obs: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """min_c max_m Q'_c(s, a_m) over M behaviour actions, (B, S), (B, M, Z) -> (B, 1)."""
    rows, samples = noise.shape[:2]
    # (B, S) -> (B*M, S)
    repeated = obs.repeat_interleave(samples, 0)
    action = vae.decode(repeated, noise.flatten(0, 1).clamp(-CODE_BOUND, CODE_BOUND))
    # (B*M, 1) -> (B, M) -> (B, 1)
    values = twin_values(targets, repeated, action)
    best = [q.view(rows, samples).amax(1, keepdim=True) for q in values]
    return torch.minimum(best[0], best[1])


def critic_loss(
    critic: nn.Module, batch: Batch, target: torch.Tensor, others: OutOfData, lmbda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lmbda times the data's squared error plus (1 - lmbda) times the other actions', and Q (B, 1).

    Each is a mean over its own rows.
    """
    obs = torch.cat([batch["observations"], others.obs])
    q = critic(obs, torch.cat([batch["actions"], others.action]))
    q_in, q_out = q.split([len(target), len(others.value)])
    assert q_in.shape == target.shape and q_out.shape == others.value.shape, q.shape
    inside, outside = (q_in - target).square().mean(), (q_out - others.value).square().mean()
    return lmbda * inside + (1 - lmbda) * outside, q_in.detach()


class MCQPolicy(SACPolicy):
    """Mildly conservative Q-learning.

    Takes what `SACPolicy` takes, and

    Args:
        behavior_policy: model of the data's actions.
        behavior_policy_optim: optimiser of the behaviour model, which is trained all along.
        lmbda: share of the data's term in the critics' loss, (0, 1].
        num_sampled_actions: M, behaviour actions per state.
        ours: see `Ours`; both `compat`s are the same here, and an actor's dropout draws too.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        behavior_policy: VAE,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        behavior_policy_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        lmbda: float = 0.7,
        num_sampled_actions: int = 10,
        **ours: Unpack[Ours],
    ) -> None:
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        super().__init__(*nets, *optims, tau, gamma, alpha, **ours)
        self.behavior_policy = behavior_policy
        self.behavior_policy_optim = behavior_policy_optim
        self._lmbda, self._num_sampled_actions = lmbda, num_sampled_actions
        own_dropout(self, self.generator)

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        own = self._parts("behavior_policy", "behavior_policy_optim")
        return super().training_state() | own

    def update(self, batch: Batch) -> Metrics:
        """Behaviour model, critics, actor, temperature, targets, in this order."""
        return self._update_behavior(batch) | super().update(batch)

    def _update_behavior(self, batch: Batch) -> Metrics:
        obs, action = batch["observations"], batch["actions"]
        loss = vae_loss(self.behavior_policy, obs, action, self._codes(obs))
        descend(loss, self.behavior_policy, self.behavior_policy_optim)
        return {"loss/behavior_policy": loss.detach()}

    def _update_critics(self, batch: Batch) -> tuple[Metrics, torch.Tensor]:
        noise = self._noise(batch["actions"])
        target = critic_target(
            self.actor, self.target_critics, batch, noise, self._alpha, self._gamma
        )
        others = self._others(torch.cat([batch["observations"], batch["next_observations"]]))
        loss1, q1 = critic_loss(self.critic1, batch, target, others, self._lmbda)
        descend(loss1, self.critic1, self.critic1_optim)
        loss2, _ = critic_loss(self.critic2, batch, target, others, self._lmbda)
        descend(loss2, self.critic2, self.critic2_optim)
        return {"loss/critic1": loss1.detach(), "loss/critic2": loss2.detach()}, q1

    @torch.no_grad()
    def _others(self, obs: torch.Tensor) -> OutOfData:
        """The policy's actions in these states with their mild values."""
        codes = self._codes(obs, self._num_sampled_actions)
        value = mild_value(self.behavior_policy, self.target_critics, obs, codes)
        dist = self.actor(obs)
        return OutOfData(obs, dist.rsample(dist.noise(self.generator))[0], value)

    def _codes(self, obs: torch.Tensor, *samples: int) -> torch.Tensor:
        """Standard normal codes for every row, (B, *samples, Z)."""
        return self._noise(obs.new_empty(len(obs), *samples, self.behavior_policy.latent_dim))
