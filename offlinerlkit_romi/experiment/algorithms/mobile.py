"""MOBILE: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from offlinerlkit_romi.experiment.config import KitConfig
from offlinerlkit_romi.experiment.limits import Between, Few, Weight
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class MOBILEConfig(ModelBasedConfig, KitConfig):
    """MOBILE: model-Bellman inconsistency penalised offline RL. ICML 2023."""

    n_elites: Annotated[int, Between(2, 1000)] = 5
    """Members used in rollouts, the best on held-out data; one alone cannot disagree."""
    penalty_coef: Weight = 1.5
    """Weight of the spread of the members' Bellman targets."""
    num_q_ensemble: Few = 2
    """Critics whose smallest value counts."""
    num_samples: Few = 10
    """Next states sampled per member for the penalty."""
    deterministic_backup: bool = True
    """Leave the entropy out of the backup."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    norm_reward: bool = False
    """Standardise the data's rewards."""
    clamp_targets: bool | None = None
    """Clamp Bellman targets at zero from below, as published; None follows --compat."""

    @property
    def penalised(self) -> float:
        """Weight of the penalty on rewards, which lowers values."""
        return self.penalty_coef

    @property
    def standardises_rewards(self) -> bool:
        """Whether it learns from rewards of mean 0 and deviation 1."""
        return self.norm_reward

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        return parts.policy("MOBILEPolicy", parts.dynamics(), **self.mobile(parts), **parts.soft())

    def mobile(self, parts: Parts) -> dict[str, Any]:
        """What MOBILE and ROMBRL share beside the actor."""
        critics = parts.modules(
            parts.critic(f"critic{number}") for number in range(1, self.num_q_ensemble + 1)
        )
        return {
            "critics": critics,
            "critics_optim": parts.adam(critics, self.critic_lr),
            "tau": self.tau,
            "gamma": self.gamma,
            "penalty_coef": self.penalty_coef,
            "num_samples": self.num_samples,
            "deterministic_backup": self.deterministic_backup,
            "max_q_backup": self.max_q_backup,
            "clamp_targets": self.clamp_targets,
            "compat": self.compat,
        }
