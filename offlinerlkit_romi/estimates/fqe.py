"""Fitted-Q evaluation: the value of a fixed policy by regression on the data.

Le, Voloshin and Yue, "Batch Policy Learning under Constraints", arXiv 1903.08738, with a target
network that follows slowly in place of one regression to convergence per iteration. The policy is
fixed, so its actions at the next states are computed once. Nothing here is the policy's own critic,
which the policy was trained to exploit.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields

import torch
from torch import nn

from offlinerlkit_romi.engine import make_adam, polyak_update
from offlinerlkit_romi.nets import MLP


@dataclass(frozen=True)
class FQERows:
    """Transitions, and what the policy does at their next states and at the starts of episodes.

    Attributes:
        obs: (n, S), standardised.
        action: (n, A).
        reward: (n, 1).
        next_obs: (n, S), standardised alike.
        next_action: (n, A), the policy's.
        terminal: (n, 1) float, 1 where nothing follows.
        start_obs: (m, S), standardised alike.
        start_action: (m, A), the policy's.
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    next_obs: torch.Tensor
    next_action: torch.Tensor
    terminal: torch.Tensor
    start_obs: torch.Tensor
    start_action: torch.Tensor

    def batch(self, index: torch.Tensor) -> FQERows:
        """The transitions at `index` (B,); the starts stay."""
        own = ("start_obs", "start_action")
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return FQERows(**{k: v if k in own else v[index] for k, v in columns.items()})


@dataclass(frozen=True)
class FQESettings:
    """How long and how the critic is fitted.

    Attributes:
        gamma: Discount per step, below 1.
        steps: Gradient steps.
        hidden_dims: Widths of the critic.
        batch_size: Transitions per step.
        lr: Learning rate; falls along a cosine to zero, so that the end is not noise.
        tau: Share by which the target moves per step.
    """

    gamma: float = 0.99
    steps: int = 30_000
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    lr: float = 1e-3
    tau: float = 0.02


def fqe_loss(
    critic: nn.Module, target: nn.Module, rows: FQERows, gamma: float, scale: float
) -> torch.Tensor:
    """Squared Bellman error of the policy, scalar; values are in units of `scale`."""
    q = critic(torch.cat([rows.obs, rows.action], dim=-1))
    with torch.no_grad():
        next_q = target(torch.cat([rows.next_obs, rows.next_action], dim=-1))
        aim = rows.reward / scale + gamma * (1 - rows.terminal) * next_q
    assert q.shape == aim.shape == rows.reward.shape, (q.shape, aim.shape)
    return (q - aim).square().mean()


def fitted_q_evaluation(
    rows: FQERows, settings: FQESettings, generator: torch.Generator
) -> torch.Tensor:
    """Discounted value of the policy at every start, (m,).

    Args:
        rows: The data and the policy's actions.
        settings: Schedule and discount.
        generator: Source of weights and batches, on the CPU: every device then draws the same.
    """
    critic = _make_critic(rows, settings, generator)
    target = copy.deepcopy(critic)
    # values of about one whatever the reward's unit, so that one learning rate suits all
    scale = float(rows.reward.square().mean().sqrt()) / (1 - settings.gamma) or 1.0
    optim = make_adam(list(critic.parameters()), settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optim, settings.steps)
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    for _ in range(settings.steps):
        index = torch.randint(len(rows.obs), (settings.batch_size,), generator=generator)
        loss = fqe_loss(
            critic, target, rows.batch(index.to(rows.obs.device)), settings.gamma, scale
        )
        optim.zero_grad()
        loss.backward()
        optim.step()
        schedule.step()
        polyak_update(target, critic, settings.tau)
    with torch.no_grad():
        starts = torch.cat([rows.start_obs, rows.start_action], dim=-1)
        values: torch.Tensor = target(starts).squeeze(-1) * scale
    return values


def _make_critic(rows: FQERows, settings: FQESettings, generator: torch.Generator) -> nn.Module:
    width = rows.obs.shape[1] + rows.action.shape[1]
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        critic = MLP(width, settings.hidden_dims, 1)
    return critic.to(rows.obs.device)
