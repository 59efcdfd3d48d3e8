"""COMBO restated in float64 (Yu et al., arXiv 2102.08363, Eq. 3), from CQL's and SAC's rows."""

import torch
from torch import nn

from tests.reference import cql, sac

Batch = dict[str, torch.Tensor]


def critic_loss(
    critic: nn.Module,
    actor: nn.Module,
    real: Batch,
    fake: Batch,
    ys: list[float],
    rho_s: str,
    **proposals,
) -> torch.Tensor:
    """Bellman loss on all rows, values down at rho's states, up at the data's own actions."""
    mixed = {name: torch.cat([real[name], fake[name]]) for name in real}
    push_down = mixed if rho_s == "mix" else fake
    gap = cql.conservative_loss(critic, actor, push_down, real, **proposals)
    return sac.critic_loss(critic, mixed, ys) + gap
