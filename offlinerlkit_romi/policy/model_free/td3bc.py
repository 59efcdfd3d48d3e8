r"""TD3+BC: TD3 whose actor stays close to the data's actions.

Paper: Fujimoto & Gu, "A Minimalist Approach to Offline Reinforcement Learning", arXiv 2106.06860;
its actor objective (Eq. 5) is lambda Q(s, pi(s)) - (pi(s) - a)^2, lambda = alpha / mean |Q|. The
same as in OfflineRL-Kit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.policy.base_policy import Batch, Ours
from offlinerlkit_romi.policy.model_free.td3 import TD3Policy
from offlinerlkit_romi.utils.noise import GaussianNoise
from offlinerlkit_romi.utils.scaler import StandardScaler


def actor_loss(
    actor: nn.Module, critic: nn.Module, obs: torch.Tensor, action: torch.Tensor, alpha: float
) -> torch.Tensor:
    """-lambda mean_B of Q(s, pi(s)) plus the mean over B and A of (pi(s) - a)^2.

    lambda = alpha / mean_B |Q(s, pi(s))| is a constant: the two terms keep their proportion
    whatever the rewards' scale.
    """
    policy_action = actor(obs)
    assert policy_action.shape == action.shape, (policy_action.shape, action.shape)
    q = critic(obs, policy_action)
    weight = alpha / q.detach().abs().mean()
    return (policy_action - action).square().mean() - weight * q.mean()


class TD3BCPolicy(TD3Policy):
    """TD3 with a behaviour-cloning term.

    Takes what `TD3Policy` takes, and

    Args:
        alpha: weight of the values against cloning.
        scaler: standardises observations in `select_action`; training sees standardised ones
            already.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        max_action: float = 1.0,
        exploration_noise: Callable[..., Any] = GaussianNoise,
        policy_noise: float = 0.2,
        noise_clip: float = 0.5,
        update_actor_freq: int = 2,
        alpha: float = 2.5,
        scaler: StandardScaler | None = None,
        **ours: Unpack[Ours],
    ) -> None:
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        noise = exploration_noise, policy_noise, noise_clip
        super().__init__(*nets, *optims, tau, gamma, max_action, *noise, update_actor_freq, **ours)
        self._alpha = alpha
        self.scaler = scaler

    def actor_loss(self, batch: Batch) -> torch.Tensor:
        """What the actor descends."""
        obs, action = batch["observations"], batch["actions"]
        return actor_loss(self.actor, self.critic1, obs, action, self._alpha)
