"""MCQ: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from offlinerlkit_romi.experiment.config import SoftConfig
from offlinerlkit_romi.experiment.limits import WIDE, Between, Dropout, Few, Rate, Share

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class MCQConfig(SoftConfig):
    """MCQ: mildly conservative Q-learning. arXiv 2206.04745."""

    actor_dropout: Dropout | None = 0.1
    """Dropout in the actor's hidden layers."""
    lmbda: Share = 0.9
    """Weight of the data's Bellman error against that of out-of-distribution actions."""
    num_sampled_actions: Few = 10
    """Actions of the behaviour model per state."""
    behavior_policy_lr: Rate = 1e-3
    """Learning rate of the behaviour model."""
    vae_hidden_dim: Annotated[int, Between(1, WIDE)] = 750
    """Width of the behaviour model's hidden layers."""
    vae_latent_dim: Annotated[int, Between(1, WIDE)] | None = None
    """Width of its code; None means twice the action dimension."""

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        behavior_policy = parts.vae(self.vae_hidden_dim, self.vae_latent_dim)
        return parts.policy(
            "MCQPolicy",
            behavior_policy=behavior_policy,
            behavior_policy_optim=parts.adam(behavior_policy, self.behavior_policy_lr),
            lmbda=self.lmbda,
            num_sampled_actions=self.num_sampled_actions,
            **parts.sac(self.actor_dropout),
        )
