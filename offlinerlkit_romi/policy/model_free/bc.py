"""Behaviour cloning: regression of a deterministic actor on the data's actions.

As in OfflineRL-Kit; there is nothing to mend, so `compat` changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import descend
from offlinerlkit_romi.nets import own_dropout
from offlinerlkit_romi.policy.base_policy import ArrayLike, BasePolicy, Batch, Metrics, Ours


def actor_loss(actor: nn.Module, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Mean over B and A of (pi(s) - a)^2."""
    policy_action = actor(obs)
    assert policy_action.shape == action.shape, (policy_action.shape, action.shape)
    return (policy_action - action).square().mean()


class BCPolicy(BasePolicy):
    """Behaviour cloning by least squares.

    Args:
        actor: observation -> action.
        actor_optim: optimiser of the actor.
        ours: see `Ours`; `compat` changes nothing here, and only an actor's dropout draws.
    """

    def __init__(
        self, actor: nn.Module, actor_optim: torch.optim.Optimizer, **ours: Unpack[Ours]
    ) -> None:
        super().__init__(**ours)
        self.actor, self.actor_optim = actor, actor_optim
        own_dropout(self, self.generator)

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | self._parts("actor", "actor_optim")

    def choose_action(self, obs: ArrayLike, deterministic: bool = False) -> torch.Tensor:
        """Deterministic in any case, (n, S) -> (n, A)."""
        action: torch.Tensor = self.actor(obs)
        return action

    def update(self, batch: Batch) -> Metrics:
        """One step of the actor."""
        loss = actor_loss(self.actor, batch["observations"], batch["actions"])
        descend(loss, self.actor, self.actor_optim)
        return {"loss/actor": loss.detach()}
