"""TD3+BC: what it can be told, and how it is put together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.experiment.config import Recurring, TwinConfig
from offlinerlkit_romi.experiment.limits import Count, Weight

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class TD3BCConfig(TwinConfig):
    """TD3+BC: TD3 with a behaviour-cloning term. arXiv 2106.06860."""

    alpha: Weight = 2.5
    """Weight of the value against the cloning term."""
    policy_noise: Weight = 0.2
    """Standard deviation of the target action's noise."""
    noise_clip: Weight = 0.5
    """Bound of the target action's noise."""
    update_actor_freq: Count = 2
    """Critic updates per actor update."""
    exploration_noise: Weight = 0.1
    """Noise of stochastic actions; evaluation is deterministic."""
    normalize_obs: bool = True
    """Standardise observations by the data's statistics."""

    @property
    def recurring(self) -> tuple[Recurring, ...]:
        """The actor's updates: the first comes with the first of the critics'."""
        updates = math.ceil(self.steps / self.update_actor_freq)
        return (*super().recurring, Recurring("actor update", "update_actor_freq", updates))

    @property
    def standardises(self) -> bool:
        """Whether the policy sees standardised observations."""
        return self.normalize_obs

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        actor = parts.deterministic_actor()
        return parts.policy(
            "TD3BCPolicy",
            actor,
            actor_optim=parts.adam(actor, self.actor_lr),
            max_action=parts.max_action,
            exploration_noise=parts.exploration_noise(self.exploration_noise),
            policy_noise=self.policy_noise,
            noise_clip=self.noise_clip,
            update_actor_freq=self.update_actor_freq,
            alpha=self.alpha,
            scaler=parts.setting.obs_scaler,
            generator=parts.generator,
            **parts.twin_critics(),
        )
