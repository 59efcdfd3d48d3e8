r"""CQL: SAC whose critics are pushed down at the policy's actions and up at the data's.

Paper: Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", arXiv 2006.04779:
CQL(H), Eq. 4 with the importance-sampled log-sum-exp of Appendix F over R uniform actions and R of
the policy at s and at s'. Order as in OfflineRL-Kit: actor, temperature, lambda, critics, targets.
Differs from the kit under the default `compat="paper"`: the log-sum-exp runs over a state's 3R
actions (the kit drops the result of a reshape, so its own runs over 3), and uniform actions have
the density of the action box. tests/upstream shows `compat="kit"` equal to the kit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.engine import apply_gradients, make_adam, uniform
from offlinerlkit_romi.modules import twin_values
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours
from offlinerlkit_romi.policy.model_free.sac import SACPolicy, backup, critic_target
from offlinerlkit_romi.policy.soft_policy import Alpha, act

Critics = tuple[nn.Module, nn.Module]
MAX_LAMBDA = 1e6


class Proposals(NamedTuple):
    """Actions at which the critics are pushed down, R of each of 3 kinds, and log-densities."""

    obs: torch.Tensor  # (B, S)
    actions: torch.Tensor  # (3, R, B, A)
    log_probs: torch.Tensor  # (3, R, B)


@torch.no_grad()
def propose(
    actor: nn.Module,
    batch: Batch,
    noise: tuple[torch.Tensor, torch.Tensor],
    anywhere: torch.Tensor,
    uniform_log_prob: float,
) -> Proposals:
    """Actions of pi(.|s), of pi(.|s') and uniform ones; no gradient reaches the actor.

    Args:
        actor: the policy.
        batch: B transitions.
        noise: of the actions at s and at s', (R, B, A) each.
        anywhere: uniform actions, (R, B, A).
        uniform_log_prob: their log-density.
    """
    own, log_prob = act(actor, batch["observations"], noise[0])
    later, later_log_prob = act(actor, batch["next_observations"], noise[1])
    log_probs = [log_prob, later_log_prob, torch.full_like(log_prob, uniform_log_prob)]
    actions = torch.stack([own, later, anywhere])
    return Proposals(batch["observations"], actions, torch.stack(log_probs).squeeze(-1))


def corrected_values(critic: nn.Module, proposals: Proposals) -> torch.Tensor:
    """Q(s, a) - log density of a, (3, R, B): importance weights of the log-sum-exp."""
    shape = proposals.log_probs.shape
    # (B, S) -> (3*R*B, S)
    obs = proposals.obs.expand(shape[0] * shape[1], -1, -1).flatten(0, 1)
    return critic(obs, proposals.actions.flatten(0, 2)).view(shape) - proposals.log_probs


def conservative_loss(
    values: torch.Tensor, q_data: torch.Tensor, weight: float, temperature: float
) -> torch.Tensor:
    """Weight (temperature mean logsumexp_n(values / temperature) - mean Q(s, a)), a scalar.

    Args:
        values: corrected values, the n actions of a log-sum-exp first: (3R, B), or (3, R, B) for
            the kit's R separate ones per state.
        q_data: Q at the data's actions, (B, 1).
        weight: `cql_weight`.
        temperature: of the log-sum-exp.
    """
    soft_maximum = temperature * torch.logsumexp(values / temperature, 0).mean()
    return weight * (soft_maximum - q_data.mean())


@torch.no_grad()
def max_q_target(
    actor: nn.Module, targets: Critics, batch: Batch, noise: torch.Tensor, gamma: float
) -> torch.Tensor:
    """R + gamma (1 - done) min_c max_R Q'_c(s', a'), R actions a' from noise (R, B, A); (B, 1)."""
    next_obs = batch["next_observations"]
    actions = act(actor, next_obs, noise)[0].flatten(0, 1)
    # (B, S) -> (R*B, S), values (R*B, 1) -> (R, B, 1)
    tiled = next_obs.expand(len(noise), -1, -1).flatten(0, 1)
    values = twin_values(targets, tiled, actions)
    best = [q.unflatten(0, noise.shape[:2]).amax(0) for q in values]
    return backup(batch, torch.minimum(*best), gamma)


class CQLPolicy(SACPolicy):
    """Soft actor-critic with conservative critics.

    Takes what `SACPolicy` takes, its `alpha`, where tuned, exp(log alpha) and not clamped, and

    Args:
        action_space: box; its `low[0]` and `high[0]` bound the uniform actions.
        cql_weight: factor of the conservative loss.
        temperature: of the log-sum-exp.
        max_q_backup: back up the largest of R actions' values, without entropy.
        deterministic_backup: leave the entropy out of the target.
        with_lagrange: tune a multiplier lambda so that the conservative loss meets the threshold.
        lagrange_threshold: that threshold.
        cql_alpha_lr: rate of log lambda.
        num_repeart_actions: R (the kit's spelling).
        ours: see `Ours`; `compat="kit"` takes log-sum-exps over 3 values.
    """

    max_alpha = math.inf

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        action_space: Any,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        cql_weight: float = 1.0,
        temperature: float = 1.0,
        max_q_backup: bool = False,
        deterministic_backup: bool = True,
        with_lagrange: bool = True,
        lagrange_threshold: float = 10.0,
        cql_alpha_lr: float = 1e-4,
        num_repeart_actions: int = 10,
        **ours: Unpack[Ours],
    ) -> None:
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        super().__init__(*nets, *optims, tau, gamma, alpha, **ours)
        self.action_space = action_space
        self._low, self._high = float(action_space.low[0]), float(action_space.high[0])
        self._cql_weight, self._temperature = cql_weight, temperature
        self._max_q_backup, self._deterministic_backup = max_q_backup, deterministic_backup
        self._with_lagrange, self._lagrange_threshold = with_lagrange, lagrange_threshold
        self._num_repeat_actions = num_repeart_actions
        like = next(actor.parameters())
        self.cql_log_alpha = torch.zeros(
            1, dtype=like.dtype, device=like.device, requires_grad=True
        )
        self.cql_alpha_optim = make_adam([self.cql_log_alpha], cql_alpha_lr)

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        tuned = ("cql_log_alpha", "cql_alpha_optim") if self._with_lagrange else ()
        return super().training_state() | self._parts(*tuned)

    def update(self, batch: Batch) -> Metrics:
        """Actor, temperature, lambda, critics, targets, in this order."""
        metrics, q = self._conservative_update(batch, batch, None)
        return metrics | {"q/real": q.mean()}

    def calc_pi_values(
        self, obs_pi: torch.Tensor, obs_to_pred: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both critics' Q(obs_to_pred, a) - log pi(a|obs_pi), a ~ pi(.|obs_pi); (B, 1) each."""
        action, log_prob = self.actforward(obs_pi)
        log_prob = log_prob.detach()
        q1, q2 = twin_values(self.critics, obs_to_pred, action)
        return q1 - log_prob, q2 - log_prob

    def calc_random_values(
        self, obs: torch.Tensor, random_act: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both critics' Q at uniform actions less their log-density; (B, 1) each."""
        log_prob = self._uniform_log_prob(random_act.shape[-1])
        q1, q2 = twin_values(self.critics, obs, random_act)
        return q1 - log_prob, q2 - log_prob

    def _conservative_update(
        self, batch: Batch, push_down: Batch, push_up: Batch | None
    ) -> tuple[Metrics, torch.Tensor]:
        """One update, and the first critic's values of the batch before it, (B, 1).

        Args:
            batch: rows of actor and Bellman losses.
            push_down: rows whose states' proposals are pushed down.
            push_up: rows whose own actions are pushed up; none means those of `batch`.
        """
        metrics = self._update_actor(batch["observations"], self._noise(batch["actions"]))
        target, proposals = self._target(batch), self._propose(push_down)
        terms = [self._terms(q, batch, target, proposals, push_up) for q in self.critics]
        (bellman1, gap1, q1), (bellman2, gap2, _) = terms
        metrics["conservative"] = 0.5 * (gap1 + gap2).detach()
        if self._with_lagrange:
            gap1, gap2, lagrange_metrics = self._lagrange(gap1, gap2)
            metrics |= lagrange_metrics
        metrics |= self._descend_critics(bellman1 + gap1, bellman2 + gap2)
        self._sync_weight()
        return metrics, q1.detach()

    def _terms(
        self,
        critic: nn.Module,
        batch: Batch,
        target: torch.Tensor,
        proposals: Proposals,
        push_up: Batch | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One critic's Bellman and conservative losses, and its Q(s, a), (B, 1)."""
        q = critic(batch["observations"], batch["actions"])
        assert q.shape == target.shape, (q.shape, target.shape)
        lifted = q if push_up is None else critic(push_up["observations"], push_up["actions"])
        gap = self._conservative_loss(corrected_values(critic, proposals), lifted)
        return (q - target).square().mean(), gap, q

    def _target(self, batch: Batch) -> torch.Tensor:
        if self._max_q_backup:
            noise = self._repeated_noise(batch["actions"], self._num_repeat_actions)
            return max_q_target(self.actor, self.target_critics, batch, noise, self._gamma)
        alpha = 0.0 if self._deterministic_backup else self._alpha
        noise = self._noise(batch["actions"])
        return critic_target(self.actor, self.target_critics, batch, noise, alpha, self._gamma)

    def _propose(self, batch: Batch) -> Proposals:
        action, repeats = batch["actions"], self._num_repeat_actions
        # (B, R, A) -> (R, B, A)
        anywhere = self._uniform_actions((len(action), repeats, action.shape[1]), action)
        noise = self._repeated_noise(action, repeats), self._repeated_noise(action, repeats)
        log_prob = self._uniform_log_prob(action.shape[1])
        return propose(self.actor, batch, noise, anywhere.transpose(0, 1), log_prob)

    def _uniform_actions(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Uniform in the box, (..., A)."""
        return self._low + (self._high - self._low) * uniform(shape, like, self.generator)

    def _uniform_log_prob(self, action_dim: int) -> float:
        """Log-density of uniform actions; the kit's is that of [-1, 1] whatever the box."""
        width = 2.0 if self._like_kit else self._high - self._low
        return -action_dim * math.log(width)

    def _conservative_loss(self, values: torch.Tensor, q_data: torch.Tensor) -> torch.Tensor:
        # (3, R, B) -> (3R, B), except that the kit's reshape is without effect
        values = values if self._like_kit else values.flatten(0, 1)
        return conservative_loss(values, q_data, self._cql_weight, self._temperature)

    def _lagrange(
        self, gap1: torch.Tensor, gap2: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """Both losses' excess over the threshold times lambda, and one step of log lambda."""
        multiplier = self.cql_log_alpha.exp().clamp(0.0, MAX_LAMBDA).squeeze()
        excess1, excess2 = gap1 - self._lagrange_threshold, gap2 - self._lagrange_threshold
        loss = -0.5 * multiplier * (excess1 + excess2).detach()
        grads = torch.autograd.grad(loss, [self.cql_log_alpha])
        weight = multiplier.detach().clone()
        apply_gradients(self.cql_alpha_optim, [self.cql_log_alpha], grads)
        metrics = {"loss/cql_alpha": loss.detach(), "cql_alpha": weight}
        return weight * excess1, weight * excess2, metrics
