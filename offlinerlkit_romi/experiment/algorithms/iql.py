"""IQL: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.experiment.config import CriticConfig
from offlinerlkit_romi.experiment.limits import Dropout, Part, Positive, Rate
from offlinerlkit_romi.experiment.rewards import trajectory_returns

if TYPE_CHECKING:
    from offlinerlkit_romi.data import Dataset
    from offlinerlkit_romi.experiment.build import Parts

# its published scale: the best and the worst trajectory lie this far apart
RETURN_RANGE = 1000.0


@dataclass(frozen=True)
class IQLConfig(CriticConfig):
    """IQL: implicit Q-learning. arXiv 2110.06169."""

    critic_q_lr: Rate = 3e-4
    """Learning rate of the state-action critics."""
    critic_v_lr: Rate = 3e-4
    """Learning rate of the state critic."""
    expectile: Part = 0.7
    """Expectile of the state value, between 0 and 1; 0.5 is the mean."""
    temperature: Positive = 3.0
    """Inverse temperature of the advantage weights."""
    dropout_rate: Dropout | None = None
    """Dropout in the actor's hidden layers."""
    reward: Literal["raw", "trajectory_range", "minus_one"] = "trajectory_range"
    """Rewards as they are, times 1000 over the range of the data's trajectory returns, or less one
    (AntMaze)."""

    @property
    def episodes_for(self) -> dict[str, str]:
        """Settings that need the data's episodes, and what needs none instead."""
        ranged = self.reward == "trajectory_range"
        return super().episodes_for | (
            {"--reward trajectory_range": "--reward raw"} if ranged else {}
        )

    def learned_rewards(self, dataset: Dataset) -> NDArray[np.float32]:
        """The data's rewards (n, 1), times 1000 over the range of returns or less one, as told."""
        rewards = super().learned_rewards(dataset)
        if self.reward == "trajectory_range":
            returns = trajectory_returns(dataset)
            spread = float(returns.max() - returns.min())
            return rewards * np.float32(RETURN_RANGE / spread if spread > 0 else 1.0)
        return rewards - np.float32(1.0) if self.reward == "minus_one" else rewards

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        nets = {
            "actor": parts.bounded_actor(self.dropout_rate),
            "critic_q1": parts.critic("critic_q1"),
            "critic_q2": parts.critic("critic_q2"),
            "critic_v": parts.critic("critic_v", with_action=False),
        }
        rates = (self.actor_lr, self.critic_q_lr, self.critic_q_lr, self.critic_v_lr)
        own = {"actor": self.actor, "critic_q1": self.critic, "critic_q2": self.critic}
        for name, net in nets.items():
            if not own.get(name):  # one of the user's own starts as it likes
                parts.orthogonal(name, net)
        optims = {
            f"{name}_optim": parts.adam(net, rate)
            for (name, net), rate in zip(nets.items(), rates, strict=True)
        }
        return parts.policy(
            "IQLPolicy",
            **nets,
            **optims,
            action_space=parts.action_space,
            tau=self.tau,
            gamma=self.gamma,
            expectile=self.expectile,
            temperature=self.temperature,
            generator=parts.generator,
        )
