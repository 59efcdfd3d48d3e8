"""CQL restated in float64, one row at a time.

Kumar et al., arXiv 2006.04779, Eq. 4 with the importance-sampled log-sum-exp of Appendix F, and the
slip of OfflineRL-Kit: a log-sum-exp over three values per repeat.
"""

import math

import torch
from torch import nn

from tests.reference.sac import Critics, q, squashed_sample

Batch = dict[str, torch.Tensor]


def log_sum_exp(values: list[torch.Tensor]) -> torch.Tensor:
    top = max(values).detach()
    total = torch.zeros((), dtype=torch.float64)
    for value in values:
        total = total + torch.exp(value - top)
    return top + torch.log(total)


def corrected_values(
    critic: nn.Module,
    actor: nn.Module,
    batch: Batch,
    i: int,
    noise: tuple[torch.Tensor, torch.Tensor],
    uniform: torch.Tensor,
    log_density: float,
) -> list[list[torch.Tensor]]:
    """Q - log density of row i's policy, next-policy and uniform actions; noise (R, B, A)."""
    obs, next_obs = batch["observations"][i], batch["next_observations"][i]
    values: list[list[torch.Tensor]] = [[], [], []]
    for r in range(len(uniform)):
        for kind, (source, z) in enumerate([(obs, noise[0]), (next_obs, noise[1])]):
            action, log_prob = squashed_sample(actor, source, z[r, i])
            values[kind].append(q(critic, obs, action.detach()) - log_prob.detach())
        values[2].append(q(critic, obs, uniform[r, i]) - log_density)
    return values


def conservative_loss(
    critic: nn.Module,
    actor: nn.Module,
    push_down: Batch,
    push_up: Batch,
    noise: tuple[torch.Tensor, torch.Tensor],
    uniform: torch.Tensor,
    low: float,
    high: float,
    weight: float,
    temperature: float,
    like_kit: bool,
) -> torch.Tensor:
    """The soft maximum over proposals less the data's mean value, times the weight, ()."""
    width = 2.0 if like_kit else high - low
    log_density = -push_down["actions"].shape[1] * math.log(width)
    rows = []
    for i in range(len(push_down["rewards"])):
        values = corrected_values(critic, actor, push_down, i, noise, uniform, log_density)
        groups = (
            list(zip(*values, strict=True)) if like_kit else [[x for kind in values for x in kind]]
        )
        rows += [temperature * log_sum_exp([x / temperature for x in group]) for group in groups]
    data = [
        q(critic, obs, action)
        for obs, action in zip(push_up["observations"], push_up["actions"], strict=True)
    ]
    return weight * (sum(rows) / len(rows) - sum(data) / len(data))


def max_q_targets(
    actor: nn.Module, slow: Critics, batch: Batch, noise: torch.Tensor, gamma: float
) -> list[float]:
    """One y per row: lesser over critics of the greatest of R actions' values, noise (R, B, A)."""
    result = []
    for i, next_obs in enumerate(batch["next_observations"]):
        actions = [squashed_sample(actor, next_obs, z)[0] for z in noise[:, i]]
        value = min(max(q(critic, next_obs, a) for a in actions) for critic in slow)
        y = batch["rewards"][i, 0] + gamma * (1 - batch["terminals"][i, 0]) * value
        result.append(y.item())
    return result


def multiplier_loss(log_lambda: torch.Tensor, excesses: list[float]) -> torch.Tensor:
    """Descending it raises lambda where the critics' losses exceed the threshold."""
    total = 0.0
    for excess in excesses:
        total += excess
    return -0.5 * min(log_lambda.exp(), torch.tensor(1e6).to(log_lambda)) * total
