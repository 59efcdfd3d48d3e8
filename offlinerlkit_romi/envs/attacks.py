r"""Attacks on what a policy is shown: the worst observation of a ball around the one it would see.

RORL's (Yang et al., NeurIPS 2022, arXiv 2206.02829). The ball is one of the largest norm with
half-width e std per dimension; the attacker knows the policy, and for `min_q` critics:

    action_diff  largest D(pi(s), pi(s~)): KL plus reverse KL of the Gaussians before squashing, the
                 squared distance of the actions for a deterministic actor
    min_q        smallest mean_i Q_i(s, pi(s~)): values at the true state s

Searched by the best of 50 uniform draws, `min_q` and the observation itself; or (`_pgd`, RORL's
mixed order) from 20 draws by 10 steps of 0.1 e std along the gradient's sign, the best kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.envs.shifts import Draws, Shift
from offlinerlkit_romi.errors import UserError

Array = NDArray[Any]
DRAWS, STARTS, STEPS, STEP = 50, 20, 10, 0.1


def action_difference(policy: Any, obs: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """D(pi(s), pi(s~)) for observations (n, 1, S) and (n, K, S) as the actor takes them, (n, K)."""
    with torch.no_grad():
        one = policy.actor(obs.flatten(0, 1))
    two = policy.actor(other.flatten(0, 1))
    if isinstance(one, torch.Tensor):
        return (one.unsqueeze(1) - two.unflatten(0, other.shape[:2])).square().sum(-1)
    mean, var = (x.unsqueeze(1) for x in (one.mean, one.stddev.square()))
    to_mean, to_var = (x.unflatten(0, other.shape[:2]) for x in (two.mean, two.stddev.square()))
    gap = (mean - to_mean).square() * (1 / var + 1 / to_var)
    # KL + reverse KL: the logarithms cancel
    return 0.5 * (gap + var / to_var + to_var / var - 2).sum(-1)


def mean_value(critics: Any, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """mean_i Q_i(s, a), (B, S), (B, A) -> (B,); `critics` are several, or an ensemble in one."""
    several = isinstance(critics, (tuple, torch.nn.ModuleList))
    values = [q(obs, action) for q in critics] if several else list(critics(obs, action))
    return torch.stack(values).mean(0).squeeze(-1)


class Attacker:
    """Finds what to show a policy, for all running episodes at once.

    Args:
        policy: Has an `actor`, and a `scaler` where it standardises observations.
        critic: The policy whose `critics` tell values.
        std: Of the data's raw observations (S,), where a scale counts it.
        attacks: What will be asked for.

    Raises:
        UserError: The policy has no actor, or the other no critics of these observations.
    """

    def __init__(
        self, policy: Any, critic: Any, std: Array | None, attacks: Sequence[Shift]
    ) -> None:
        self._policy, self._critic, self._std = policy, critic, std
        for attack in attacks:
            if not isinstance(getattr(policy, "actor", None), torch.nn.Module):
                raise UserError(f"shift {attack}: the policy has no actor to attack")
            if attack.kind.startswith("min_q") and getattr(critic, "critics", None) is None:
                name = type(critic).__name__.removesuffix("Policy")
                remedy = "give --attack-critic RUN, or attack_critic= from Python"
                raise UserError(f"shift {attack}: {name} has no critics", remedy)

    def __call__(self, attack: Shift, true: Array, shown: Array, draws: Draws) -> Array:
        """What to show instead of `shown` (n, S), the states being `true` (n, S)."""
        if not attack.scale:
            return shown
        climbs, width = attack.kind.endswith("_pgd"), shown.shape[1]
        std = self._std if attack.unit == "std" else np.ones(width)
        assert std is not None  # see EvalSettings
        half = attack.scale * std
        offset = 2 * draws.uniform(STARTS if climbs else DRAWS, width) - 1  # (n, K, S), of `half`
        if attack.kind == "min_q":
            offset = np.concatenate([offset, np.zeros_like(offset[:, :1])], axis=1)
        centre, ball, place = (self._tensor(x) for x in (shown[:, None], half, offset))
        objective = self._objective(attack, centre, self._tensor(true))
        if climbs:
            place = _climb(lambda x: objective(centre + x * ball), place)
        with torch.no_grad():
            best = objective(centre + place * ball).argmax(1)
        chosen = place[torch.arange(len(best), device=best.device), best].cpu().numpy()
        return shown + chosen.clip(-1.0, 1.0) * half

    def _objective(self, attack: Shift, centre: torch.Tensor, true: torch.Tensor) -> Any:
        """A function of observations (n, K, S), to be made as large as can be, (n, K)."""
        policy = self._policy
        if attack.kind.startswith("action_diff"):
            seen = _seen(policy, centre)
            return lambda x: action_difference(policy, seen, _seen(policy, x))
        critic, state = self._critic, _seen(self._critic, true)

        def value(x: torch.Tensor) -> torch.Tensor:
            action = _act(policy, _seen(policy, x.flatten(0, 1)))
            states = state.repeat_interleave(x.shape[1], 0)  # (n, S) -> (n*K, S)
            return -mean_value(critic.critics, states, action).unflatten(0, x.shape[:2])

        return value

    def _tensor(self, x: Array) -> torch.Tensor:
        device = next(self._policy.actor.parameters()).device
        return torch.as_tensor(x, dtype=torch.float32, device=device)


def _climb(objective: Any, place: torch.Tensor) -> torch.Tensor:
    """Steps along the gradient's sign inside [-1, 1], (n, K, S)."""
    for _ in range(STEPS):
        place = place.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(place).sum(), [place])
        place = (place.detach() + STEP * gradient.sign()).clamp(-1.0, 1.0)
    return place


def _seen(policy: Any, obs: torch.Tensor) -> torch.Tensor:
    """Raw observations as the policy's networks take them."""
    return obs if policy.scaler is None else policy.scaler.transform_tensor(obs)


def _act(policy: Any, obs: torch.Tensor) -> torch.Tensor:
    """The deterministic action, with its gradient, (B, S) -> (B, A)."""
    found = policy.actor(obs)
    if isinstance(found, torch.Tensor):
        return found
    mode = found.mode()
    return mode[0] if isinstance(mode, tuple) else mode.clamp(-1.0, 1.0)
