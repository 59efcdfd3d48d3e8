"""RAMBO's adversarial loss restated in float64, row by row.

Rigter et al., arXiv 2204.12581, in OfflineRL-Kit's form.
"""

import math

import torch
from torch import nn

from tests.reference import ensemble, sac


def log_density(
    dynamics, obs: torch.Tensor, action: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Log-density of [delta obs, reward] under the elites' mixture: (S,), (A,), (D,) -> ()."""
    inputs = ensemble.scaled(dynamics, obs, action)
    return ensemble.mixture_log_density(
        [
            ensemble.gaussian_log_density(
                *ensemble.member_forward(dynamics.model, int(member), inputs), sample
            )
            for member in dynamics.model.elites
        ]
    )


def raw_advantage(
    actor: nn.Module,
    critics: sac.Critics,
    obs: torch.Tensor,
    action: torch.Tensor,
    sample: torch.Tensor,
    terminal: float,
    gamma: float,
    entropy_weight: float = 0.0,
) -> float:
    """r + gamma (1 - done) V(s') - min_c Q_c(s, a) of one row."""
    next_obs = obs + sample[:-1]
    next_action, log_prob = sac.squashed_sample(actor, next_obs, None)
    next_value = sac.lesser_q(critics, next_obs, next_action) - entropy_weight * log_prob
    value = sample[-1] + gamma * (1 - terminal) * next_value
    return (value - sac.lesser_q(critics, obs, action)).item()


def standardise(values: list[float], alive: list[bool]) -> list[float]:
    """(x - mean) / (std + 1e-6) with the alive rows' mean and unbiased std; dead rows become 0."""
    living = [x for x, lives in zip(values, alive, strict=True) if lives]
    if not living:
        return [0.0] * len(values)
    mean = sum(living) / len(living)
    variance = sum((x - mean) ** 2 for x in living) / max(len(living) - 1, 1)
    scale = math.sqrt(variance) + 1e-6
    return [(x - mean) / scale if lives else 0.0 for x, lives in zip(values, alive, strict=True)]


def adversarial_loss(
    log_probs: list[torch.Tensor], advantages: list[float], alive: list[bool], reduction: str
) -> torch.Tensor:
    total, count = torch.zeros((), dtype=torch.float64), 0
    for log_prob, advantage, lives in zip(log_probs, advantages, alive, strict=True):
        if lives:
            total, count = total + log_prob * advantage, count + 1
    return total if reduction == "sum" else total / max(count, 1)


def model_loss(
    policy,
    obs: torch.Tensor,
    action: torch.Tensor,
    sample: torch.Tensor,
    terminal: list[float],
    alive: list[bool],
    batch: dict[str, torch.Tensor],
    weight: float,
    reduction: str = "mean",
    entropy_weight: float = 0.0,
    gamma: float = 0.99,
) -> dict[str, torch.Tensor]:
    """The loss of one model update and its two parts; rows of obs, action, sample match."""
    critics = (policy.critic1, policy.critic2)
    advantages = [
        raw_advantage(policy.actor, critics, *row, gamma=gamma, entropy_weight=entropy_weight)
        for row in zip(obs, action, sample, terminal, strict=True)
    ]
    log_probs = [
        log_density(policy.dynamics, *row) for row in zip(obs, action, sample, strict=True)
    ]
    adversarial = adversarial_loss(log_probs, standardise(advantages, alive), alive, reduction)
    ones = [1.0] * len(batch["rewards"])
    supervised = ensemble.weighted_loss(policy.dynamics, batch, ones, 0.001)
    return {"adv": adversarial, "sl": supervised, "all": weight * adversarial + supervised}
