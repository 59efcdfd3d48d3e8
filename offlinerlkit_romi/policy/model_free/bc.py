"""Behaviour cloning: regression of a deterministic actor on the data's actions.

As in OfflineRL-Kit; there is nothing to mend, so `compat` changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.engine import descend
from offlinerlkit_romi.nets import own_dropout
from offlinerlkit_romi.policy.base_policy import BasePolicy, Batch, Compat, Metrics, check_compat


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
        compat: taken by every policy; here both are the same.
        generator: taken by every policy; nothing is drawn here but an actor's dropout.

    Raises:
        ValueError: unknown `compat`.
    """

    def __init__(
        self,
        actor: nn.Module,
        actor_optim: torch.optim.Optimizer,
        *,
        compat: Compat = "paper",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self._like_kit = check_compat(compat)
        self.actor, self.actor_optim = actor, actor_optim
        own_dropout(self, generator)

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        state: dict[str, Any] = {"actor": self.actor, "actor_optim": self.actor_optim}
        if self.generator is not None:
            state["generator"] = self.generator
        return state

    def _act(self, obs: np.ndarray, deterministic: bool) -> np.ndarray:
        """Deterministic in any case."""
        return self.actor(obs).cpu().numpy()

    def update(self, batch: Batch) -> Metrics:
        """One step of the actor."""
        loss = actor_loss(self.actor, batch["observations"], batch["actions"])
        descend(loss, self.actor, self.actor_optim)
        return {"loss/actor": loss.detach()}
