"""What policies on a learned model share: rollouts, mixed batches, and values by origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from offlinerlkit_romi.dynamics import BaseDynamics
from offlinerlkit_romi.dynamics.prediction_error import Segments
from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.policy.base_policy import Batch, Metrics
from offlinerlkit_romi.policy.soft_policy import SoftPolicy

Rollout = tuple[dict[str, torch.Tensor], dict[str, float]]
TRANSITION = ("obss", "next_obss", "actions", "rewards", "terminals")


class OnModel(SoftPolicy):
    """Rollouts in a learned simulator, and its part of `training_state`.

    Stands before the policy that learns from them in a class's bases.

    Attributes:
        dynamics: the learned simulator.
    """

    dynamics: BaseDynamics

    def training_state(self) -> dict[str, Any]:
        """The policy's, then the simulator's, by name."""
        return super().training_state() | self.dynamics.training_state()

    def rollout(self, init_obss: ArrayLike, rollout_length: int) -> Rollout:
        """Roll the policy from start states (n, S); see the function `rollout`."""
        obs = as_input(init_obss, self.actor)
        return rollout(self.dynamics, self.act_in_model, obs, rollout_length)

    def held_out(self, segments: Segments) -> Metrics:
        """What an algorithm tells of its model on held-out data, beside the prediction error."""
        return {}

    def act_in_model(self, obs: torch.Tensor) -> torch.Tensor:
        """Actions of a rollout, (n, S) -> (n, A)."""
        return self.choose_action(obs)


@torch.no_grad()
def rollout(
    dynamics: BaseDynamics,
    choose_action: Callable[[torch.Tensor], torch.Tensor],
    obs: torch.Tensor,
    length: int,
) -> Rollout:
    """Roll a policy in the model; a row stops at its predicted terminal.

    Args:
        dynamics: the learned simulator.
        choose_action: (n, S) -> (n, A).
        obs: start states (n, S).
        length: H.

    Returns:
        Transitions `obss, next_obss, actions, rewards, terminals`, at most n*H rows each, and
        `num_transitions`, `reward_mean`.
    """
    steps: dict[str, list[torch.Tensor]] = {name: [] for name in TRANSITION}
    for _ in range(length):
        action = choose_action(obs)
        next_obs, reward, terminal, _ = dynamics.sample_step(obs, action)
        rows = (obs, next_obs, action, reward, terminal.to(reward))
        for name, row in zip(steps, rows, strict=True):
            steps[name].append(row)
        obs = next_obs[~terminal.squeeze(-1)]
        if not len(obs):
            break
    transitions = {name: torch.cat(rows) for name, rows in steps.items()}
    rewards = transitions["rewards"]
    return transitions, {"num_transitions": len(rewards), "reward_mean": float(rewards.mean())}


@torch.no_grad()
def masked_rollout(
    dynamics: BaseDynamics,
    choose_action: Callable[[torch.Tensor], torch.Tensor],
    obs: torch.Tensor,
    length: int,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """`rollout` in fixed shapes and without a host sync: every row goes on, dead or alive.

    A row that has ended stays where it ended, so that it cannot overflow; its draws are wasted.

    Takes what `rollout` takes.

    Returns:
        Transitions `obss, next_obss, actions, rewards, terminals`, n*H rows each, and which of
        them count, (n*H, 1) bool: those that `rollout` returns.
    """
    steps: list[tuple[torch.Tensor, ...]] = []
    alive = torch.ones_like(obs[:, :1], dtype=torch.bool)
    for _ in range(length):
        action = choose_action(obs)
        next_obs, reward, terminal, _ = dynamics.sample_step(obs, action)
        steps.append((obs, next_obs, action, reward, terminal.to(reward), alive))
        alive = alive & ~terminal
        obs = torch.where(alive, next_obs, obs)
    *columns, mask = (torch.cat(rows) for rows in zip(*steps, strict=True))
    return dict(zip(TRANSITION, columns, strict=True)), mask


def rollout_metrics(
    transitions: Mapping[str, torch.Tensor], mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """`num_transitions` and `reward_mean` of a `masked_rollout`, on the device."""
    count, rewards = mask.sum(), transitions["rewards"]
    total = torch.where(mask, rewards, 0).sum(dtype=torch.float64)
    return {"num_transitions": count.to(rewards), "reward_mean": (total / count).to(rewards)}


def mix(batch: Mapping[str, Batch]) -> dict[str, torch.Tensor]:
    """The rows of `batch["real"]` followed by those of `batch["fake"]`."""
    real, fake = batch["real"], batch["fake"]
    return {name: torch.cat([real[name], fake[name]]) for name in real}


def value_metrics(q: torch.Tensor, n_real: int) -> Metrics:
    """Mean Q of the dataset's and of the model's rows, where there are any, (B, 1) -> ()."""
    parts = {"q/real": q[:n_real], "q/model": q[n_real:]}
    return {name: values.mean() for name, values in parts.items() if len(values)}
