"""EDAC: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from offlinerlkit_romi.experiment.config import SoftConfig
from offlinerlkit_romi.experiment.limits import Between, Weight

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class EDACConfig(SoftConfig):
    """EDAC: ensemble-diversified actor-critic. arXiv 2110.01548."""

    num_critics: Annotated[int, Between(2, 1000)] = 50
    """Critics in the diversified ensemble."""
    eta: Weight = 1.0
    """Weight of the diversity of the critics' gradients."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    deterministic_backup: bool = False
    """Leave the entropy out of the backup."""
    normalize_reward: bool = False
    """Standardise the data's rewards."""

    @property
    def standardises_rewards(self) -> bool:
        """Whether it learns from rewards of mean 0 and deviation 1."""
        return self.normalize_reward

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        critics = parts.critic_ensemble(self.num_critics)
        return parts.policy(
            "EDACPolicy",
            critics=critics,
            critics_optim=parts.adam(critics, self.critic_lr),
            tau=self.tau,
            gamma=self.gamma,
            max_q_backup=self.max_q_backup,
            deterministic_backup=self.deterministic_backup,
            eta=self.eta,
            **parts.soft(),
        )
