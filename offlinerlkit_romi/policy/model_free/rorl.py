r"""RORL: SAC-N that is smooth, and pessimistic, around the data's states.

Paper: Yang et al., "RORL: Robust Offline Reinforcement Learning via Conservative Smoothing",
arXiv 2206.02829. On states s + d_k, |d_k| <= \epsilon std per dimension, k = 1..n: the policy must
not change (\beta_P), the values must not change and above all not rise (\beta_Q), and the values of
the policy's actions are pulled down by the ensemble's spread (\beta_ood, \lambda). The largest of n
costs has its gradient at one k alone: it is found without a graph, which leaves value and gradient
as they are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import uniform
from offlinerlkit_romi.modules import EnsembleCritic
from offlinerlkit_romi.modules.distributions import NormalWrapper
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours, check_choice
from offlinerlkit_romi.policy.model_free.edac import EDACPolicy
from offlinerlkit_romi.policy.soft_policy import Alpha, act


def divergence(p: NormalWrapper, q: NormalWrapper) -> torch.Tensor:
    """KL(p||q) + KL(q||p) of the Gaussians before any squashing, (..., A) -> (...)."""
    ratio = p.stddev / q.stddev
    precision = p.stddev.square().reciprocal() + q.stddev.square().reciprocal()
    # squares alone: variances' ratios less 2 would cancel where both nearly agree
    spread = (ratio - ratio.reciprocal()).square()
    return 0.5 * (spread + (p.mean - q.mean).square() * precision).sum(-1)


def asymmetric_square(x: torch.Tensor, share: float) -> torch.Tensor:
    """(1 - share) x^2 where x rises above 0, share x^2 below."""
    return torch.where(x > 0, 1 - share, share) * x.square()


def worst(costs: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Each row's most costly state, (n, B), (n, B, S) -> (B, S)."""
    chosen = costs.argmax(0).view(1, -1, 1).expand(1, *states.shape[1:])
    return states.gather(0, chosen)[0]


def policy_smoothing_loss(
    actor: nn.Module, obs: torch.Tensor, shifts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_B max_k D(pi(s), pi(s + d_k)), and the batch's largest; both policies learn from it.

    Args:
        actor: observation -> Gaussian, squashed or not.
        obs: s, (B, S).
        shifts: d, (n, 1, S), or (n, B, S) for each row its own.
    """
    states = obs + shifts
    with torch.no_grad():
        chosen = worst(divergence(actor(obs), actor(states)), states)
    costs = divergence(actor(obs), actor(chosen))
    return costs.mean(), costs.detach().amax()


def value_smoothing_loss(
    critics: nn.Module, batch: Batch, qs: torch.Tensor, shifts: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_B max_k mean_i of the asymmetric square of Q_i(s + d_k, a) - Q_i(s, a); the mean rise.

    Args:
        critics: the ensemble.
        batch: B transitions.
        qs: Q_i(s, a), (N, B, 1), with graph.
        shifts: d, (n, 1, S) or (n, B, S).
        share: of a fall's square that counts; a rise's counts 1 - share.
    """
    states, actions = batch["observations"] + shifts, batch["actions"]
    with torch.no_grad():
        # (n, B, ·) -> (n*B, ·) -> (N, n*B, 1) -> (N, n, B, 1), less (N, 1, B, 1)
        tiled = actions.expand(len(states), -1, -1).flatten(0, 1)
        near = critics(states.flatten(0, 1), tiled).unflatten(1, states.shape[:2])
        costs = asymmetric_square(near - qs.unsqueeze(1), share).mean(0).squeeze(-1)
        chosen = worst(costs, states)
    rise = critics(chosen, actions) - qs
    assert rise.shape == qs.shape, (rise.shape, qs.shape)
    return asymmetric_square(rise, share).mean(), rise.detach().mean()


def pessimism_loss(
    critics: nn.Module,
    actor: nn.Module,
    obs: torch.Tensor,
    shifts: torch.Tensor,
    noise: torch.Tensor,
    weight: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean_{i,B,k} (Q_i(s_k, a_k) - [Q_i - weight std_i Q_i](s_k, a_k))^2, and the mean spread.

    The bracket is a constant, a_k ~ pi(s_k): every critic goes down by its ensemble's spread.

    Args:
        critics: the ensemble.
        actor: gives a_k; does not learn from it.
        obs: s, (B, S).
        shifts: d, (n, 1, S) or (n, B, S).
        noise: makes a_k, (n, B, A).
        weight: lambda.
    """
    states = (obs + shifts).flatten(0, 1)  # (n, B, S) -> (n*B, S)
    with torch.no_grad():
        actions, _ = act(actor, states, noise.flatten(0, 1))
    qs = critics(states, actions)
    with torch.no_grad():
        spread = qs.std(0)
        lower = qs - weight * spread
    return (qs - lower).square().mean(), spread.mean()


class RORLPolicy(EDACPolicy):
    """SAC-N with smoothed policy and values and pessimism on perturbed states.

    Takes what `EDACPolicy` takes up to `alpha`, and

    Args:
        n_perturbed: states around each of the data's (n).
        eps_policy: half-width of the policy's ball, in `obs_std`; 0 switches its term off.
        beta_policy: weight of the policy's smoothness.
        eps_q: half-width of the values' ball; 0 switches their term off.
        beta_q: weight of the values' smoothness.
        tau_q: share by which a fall of a value counts; a rise counts 1 - tau_q.
        eps_ood: half-width of the ball of pessimism; 0 means the data's states themselves.
        beta_ood: weight of pessimism.
        lambda_ood: deviations by which values are pulled down; 0 switches the term off.
        lambda_ood_min: where it ends.
        lambda_ood_decay: what it loses per update.
        noise: `shared`, n shifts for all rows of a batch, or `per_row`.
        obs_std: the data's standard deviation, (S,); 1 where observations are standardised.
        release: compute as the authors' code, all losses before any step and a temperature without
            bound; otherwise steps and bound are EDAC's.
        ours: see `Ours`; it computes the same under both `compat`s.

    Raises:
        ValueError: unknown `noise` or `compat`, or pessimism asked of a single critic.
    """

    _lambda: torch.Tensor
    _obs_std: torch.Tensor

    def __init__(
        self,
        actor: nn.Module,
        critics: EnsembleCritic,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        n_perturbed: int = 20,
        eps_policy: float = 0.005,
        beta_policy: float = 0.1,
        eps_q: float = 0.005,
        beta_q: float = 1e-4,
        tau_q: float = 0.2,
        eps_ood: float = 0.01,
        beta_ood: float = 0.5,
        lambda_ood: float = 1.0,
        lambda_ood_min: float = 0.5,
        lambda_ood_decay: float = 1e-6,
        noise: str = "shared",
        obs_std: float | torch.Tensor = 1.0,
        release: bool = False,
        **ours: Unpack[Ours],
    ) -> None:
        check_choice("noise", noise, ("shared", "per_row"))
        nets, optims = (actor, critics), (actor_optim, critics_optim)
        sac_n: dict[str, Any] = {"deterministic_backup": False, "eta": 0.0}
        super().__init__(*nets, *optims, tau, gamma, alpha, **sac_n, **ours)
        self._beta_policy = beta_policy if eps_policy > 0 else 0.0
        self._beta_q = beta_q if eps_q > 0 else 0.0
        self._beta_ood = beta_ood if lambda_ood > 0 else 0.0
        if self._beta_ood > 0 and self._num_critics < 2:
            raise ValueError("beta_ood > 0 needs two critics or more: a single one has no spread")
        self._eps_policy, self._eps_q, self._eps_ood = eps_policy, eps_q, eps_ood
        self._n, self._per_row, self._tau_q = n_perturbed, noise == "per_row", tau_q
        self._lambda_min, self._lambda_decay = lambda_ood_min, lambda_ood_decay
        self._release = release
        if release:
            self.max_alpha = math.inf
        device = self.tensor_device
        self.register_buffer("_obs_std", torch.as_tensor(obs_std, device=device), persistent=False)
        # float64: a decay of 1e-6 is four units in the last place of a float32 of 3
        start = torch.tensor(lambda_ood, dtype=torch.float64, device=device)
        self.register_buffer("_lambda", start, persistent=False)

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | {"lambda_ood": self._lambda}

    def update(self, batch: Batch) -> Metrics:
        """Actor, temperature, critics, slow critics; the release takes all losses first."""
        if not self._release:
            return super().update(batch)
        loss, log_prob, metrics = self._actor_loss(batch)
        critics_loss = self._critics_loss(batch)
        metrics |= self._descend_actor(loss, log_prob)
        return metrics | self._descend_critics(*critics_loss)

    def _actor_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        loss, log_prob, metrics = super()._actor_loss(batch)
        if self._beta_policy > 0:
            obs = batch["observations"]
            shifts = self._shifts(self._eps_policy, obs)
            smooth, largest = policy_smoothing_loss(self.actor, obs, shifts)
            loss = loss + self._beta_policy * smooth
            metrics |= {"loss/policy_smooth": smooth.detach(), "rorl/kl_max": largest}
        return loss, log_prob, metrics

    def _regularise(
        self, loss: torch.Tensor, batch: Batch, qs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        loss, metrics = super()._regularise(loss, batch, qs, actions)
        obs = batch["observations"]
        if self._beta_q > 0:
            shifts = self._shifts(self._eps_q, obs)
            smooth, rise = value_smoothing_loss(self.critics, batch, qs, shifts, self._tau_q)
            loss = loss + self._beta_q * smooth
            metrics |= {"loss/q_smooth": smooth.detach(), "rorl/q_rise": rise}
        if self._beta_ood > 0:
            shifts = self._shifts(self._eps_ood, obs)
            noise = self._noise(batch["actions"].expand(self._n, -1, -1))
            nets = self.critics, self.actor
            lower, spread = pessimism_loss(*nets, obs, shifts, noise, self._lambda)
            loss = loss + self._beta_ood * lower
            metrics |= {"loss/q_ood": lower.detach(), "rorl/spread_ood": spread}
            metrics["rorl/lambda"] = self._lambda.clone()  # read before it falls
            self._lambda.sub_(self._lambda_decay).clamp_(min=self._lambda_min)
        return loss, metrics

    def _shifts(self, eps: float, obs: torch.Tensor) -> torch.Tensor:
        """Uniform in the ball: n for all rows, (n, 1, S), or for each row, (n, B, S)."""
        shape = (self._n, len(obs) if self._per_row else 1, obs.shape[1])
        return 2 * eps * self._obs_std * (uniform(shape, obs, self.generator) - 0.5)
