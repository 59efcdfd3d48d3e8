"""ROMI's values, sets and losses in float64, row by row (Qiao et al., arXiv 2603.08118)."""

import math

import torch
from torch import nn

from tests.reference import ensemble, sac


def value(policy, obs: torch.Tensor) -> torch.Tensor:
    """V(s) = min over the slow critics at the mode of the policy, (S,) -> ()."""
    action, _ = sac.squashed_sample(policy.actor, obs, None)
    return sac.lesser_q((policy.critic1_old, policy.critic2_old), obs, action)


def relative_point(next_obs: torch.Tensor, noise: torch.Tensor, xi: float) -> torch.Tensor:
    """s' + (xi ||s'|| / 3) z, all (S,)."""
    norm = math.sqrt(sum(float(x) ** 2 for x in next_obs))
    return torch.stack([x + xi * norm / 3 * z for x, z in zip(next_obs, noise, strict=True)])


def robust_target(policy, next_obs: torch.Tensor, others: list[torch.Tensor]) -> float:
    """m: the least value among s' and the other points of its set."""
    return min(value(policy, point).item() for point in [next_obs, *others])


def robust_value_row(policy, batch, row: int, noise: torch.Tensor, target: float) -> torch.Tensor:
    """sum_e (V(s + delta_e) - m)^2, nothing for a terminal row; noise (E, D)."""
    total = torch.zeros((), dtype=torch.float64)
    if bool(batch["terminals"][row, 0]):
        return total
    obs, action = batch["observations"][row], batch["actions"][row]
    inputs = ensemble.scaled(policy.dynamics, obs, action)
    for member in range(policy.dynamics.model.num_ensemble):
        mean, logvar = ensemble.member_forward(policy.dynamics.model, member, inputs)
        sample = mean + torch.sqrt(torch.exp(logvar)) * noise[member]
        total = total + (value(policy, obs + sample[:-1]) - target) ** 2
    return total


def robust_value_loss(
    policy, batch, noise: torch.Tensor, candidate_noise: torch.Tensor, xi: float
) -> torch.Tensor:
    """L_RVL with the relative set; noise (E, B, D), candidate_noise (N, B, S)."""
    rows = len(batch["rewards"])
    total = torch.zeros((), dtype=torch.float64)
    for i in range(rows):
        next_obs = batch["next_observations"][i]
        points = [relative_point(next_obs, z[i], xi) for z in candidate_noise]
        m = robust_target(policy, next_obs, points)
        total = total + robust_value_row(policy, batch, i, noise[:, i], m)
    return total / rows


def weight(net: nn.Module, batch, row: int, low: float = 0.5, high: float = 2.0) -> torch.Tensor:
    """w = a + (b - a)/2 (tanh(net(s, a, s')) + 1) of one row."""
    parts = [batch["observations"][row], batch["actions"][row]]
    if net.weight_input == "sas":
        parts.append(batch["next_observations"][row])
    return low + (high - low) / 2 * (torch.tanh(net.net(torch.cat(parts))[0]) + 1)


def released_rewards(
    inner_gradient: torch.Tensor, rows: list[torch.Tensor], params: list[torch.Tensor]
) -> list[float]:
    """Per quarter of the batch: <inner gradient, gradient of its mean outer loss> / 100."""
    quarter, rewards = len(rows) // 4, []
    for k in range(4):
        loss = torch.stack(rows[k * quarter : (k + 1) * quarter]).mean()
        grads = torch.autograd.grad(loss, params, retain_graph=True)
        flat = torch.cat([g.reshape(-1) for g in grads])
        rewards.append(float((flat * inner_gradient).sum()) / 100)
    return rewards


def released_surrogate(
    weights: list[torch.Tensor], rewards: list[float], baseline: float
) -> torch.Tensor:
    """(1/B) sum_k mean of the quarter's weights times (reward - baseline)."""
    quarter, total = len(weights) // 4, torch.zeros((), dtype=torch.float64)
    for k, reward in enumerate(rewards):
        mean = sum(weights[k * quarter : (k + 1) * quarter]) / quarter
        total = total + mean * (reward - baseline)
    return total / len(weights)


def moved_baseline(baseline: float | None, rewards: list[float]) -> float:
    """The first mean of the rewards, then a moving average at rate 0.1."""
    mean = sum(rewards) / len(rewards)
    return mean if baseline is None else baseline + 0.1 * (mean - baseline)
