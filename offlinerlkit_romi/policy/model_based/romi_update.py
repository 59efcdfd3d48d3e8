r"""ROMI's update of the model: weighted likelihood, the weights by a robust value-aware loss.

Paper: Qiao et al., "Model-based Offline RL via Robust Value-Aware Model Learning with Implicitly
Differentiable Adaptive Weighting", ICLR 2026, arXiv 2603.08118 (not the 2021 "Reverse Offline
Model-based Imagination"). Everything but the model update is RAMBO's. With V(s) = min_c Q'_c(s,
mode pi(s)):

    inner   psi' = psi - step(grad mean_i w_i nll_i(psi) + regulariser)
    outer   L(psi') = mean_i sum_e (V(s_i + delta_e) - m_i)^2,   m_i = min over U_xi(s'_i) of V
    weights nu descends grad_nu L(psi'(nu)), see `bilevel`

Variants: `exact` is the above; `release` is what the published code computes; `no_weighting` trains
the model on the outer loss alone (the ablation of Section 5.2). That loss sees next observations
only: a predicted reward keeps its own likelihood, for the paper's is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.bilevel import hypergradient_surrogate, precondition
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.engine import apply_gradients
from offlinerlkit_romi.modules import WeightingNet
from offlinerlkit_romi.policy.base_policy import Batch, Metrics
from offlinerlkit_romi.policy.model_based.rambo import LOGVAR_LOSS_COEF
from offlinerlkit_romi.policy.model_free.sac import min_q

VARIANTS = ("exact", "release", "no_weighting")
UNCERTAINTY_SETS = ("relative", "ball")
# the published code's row groups, scale and moving-average rate (docs/algorithms/romi.md)
RELEASE_GROUPS, RELEASE_SCALE, RELEASE_BASELINE_RATE = 4, 100.0, 0.1


def perturb(
    next_obs: torch.Tensor,
    noise: torch.Tensor,
    xi: float,
    uncertainty_set: str,
    radius: torch.Tensor | None = None,
) -> torch.Tensor:
    """Candidates of the uncertainty set around s', with s' itself last, (N+1, B, S).

    Args:
        next_obs: s', (B, S), standardised.
        noise: standard normal, (N, B, S).
        xi: scale of the set.
        uncertainty_set: `relative`, s' + (xi ||s'|| / 3) z, or `ball`, uniform in the Euclidean
            ball of radius xi
            (Definition 4.1).
        radius: uniform on [0, 1], (N, B, 1); `ball` only.
    """
    if uncertainty_set == "relative":
        offset = noise * (xi * next_obs.norm(dim=-1, keepdim=True) / 3)
    else:
        assert radius is not None
        # the S-th root makes the points uniform in volume
        length = xi * radius ** (1 / next_obs.shape[-1])
        offset = noise / noise.norm(dim=-1, keepdim=True) * length
    return torch.cat([next_obs + offset, next_obs.unsqueeze(0)])


def robust_target(
    value: Callable[[torch.Tensor], torch.Tensor], candidates: torch.Tensor
) -> torch.Tensor:
    """Smallest V among the candidates, m, (N+1, B, S) -> (B, 1)."""
    # (N+1, B, S) -> ((N+1)*B, S) -> (N+1, B, 1)
    values = value(candidates.flatten(0, 1)).view(*candidates.shape[:2], 1)
    return values.amin(0)


def robust_value_rows(
    value: Callable[[torch.Tensor], torch.Tensor],
    samples: torch.Tensor,
    target: torch.Tensor,
    terminal: torch.Tensor,
) -> torch.Tensor:
    """sum_e (V(s_hat_e) - m)^2 per row, (B, 1); zero beyond a terminal, where both values are 0.

    Args:
        value: V, (n, S) -> (n, 1).
        samples: predicted next observations, (E, B, S), with graph to the model.
        target: m, (B, 1), a constant.
        terminal: terminal flags of the data rows, (B, 1).
    """
    # (E, B, S) -> (E*B, S) -> (E, B, 1)
    values = value(samples.flatten(0, 1)).view(*samples.shape[:2], 1)
    assert target.shape == terminal.shape == values.shape[1:], (target.shape, values.shape)
    return (values - target).square().sum(0) * (1 - terminal)


class ROMIUpdate(nn.Module):
    """ROMI's model updates, for a policy with RAMBO's parts under the kit's names.

    Attributes:
        dynamics: the learned simulator, with `WeightedPasses`.
        actor: observation -> distribution with a `mode`.
        critic1_old: Q'_1.
        critic2_old: Q'_2.
        generator: source of the uncertainty set's noise.
    """

    dynamics: Any
    actor: nn.Module
    critic1_old: nn.Module
    critic2_old: nn.Module
    generator: torch.Generator | None
    weighting_net: WeightingNet
    _adv_rollout_batch_size: int
    _dynamics_adv_optim: torch.optim.Optimizer
    _baseline: torch.Tensor

    def _set_up(
        self,
        weighting_net: WeightingNet,
        weighting_optim: torch.optim.Optimizer,
        xi: float,
        num_perturbations: int,
        variant: str,
        uncertainty_set: str,
        preconditioner: str,
        reward_likelihood: bool,
    ) -> None:
        """Take over what only ROMI has; the arguments are `ROMIPolicy`'s."""
        _check("variant", variant, VARIANTS)
        _check("uncertainty_set", uncertainty_set, UNCERTAINTY_SETS)
        _check("preconditioner", preconditioner, ("adam", "identity"))
        if variant == "release" and self._adv_rollout_batch_size % RELEASE_GROUPS:
            raise ValueError(
                f"variant 'release' splits its rows into {RELEASE_GROUPS} groups of one size: "
                f"adv_rollout_batch_size {self._adv_rollout_batch_size} is not a multiple"
            )
        self.weighting_net = weighting_net
        self._weighting_optim = weighting_optim
        self._xi, self._num_perturbations = xi, num_perturbations
        self._variant, self._uncertainty_set = variant, uncertainty_set
        self._preconditioner, self._reward_likelihood = preconditioner, reward_likelihood
        # NaN until the first update of `release`; outside the state dict as in the published code
        device = next(weighting_net.parameters()).device
        self.register_buffer(
            "_baseline", torch.full((), torch.nan, device=device), persistent=False
        )

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V(s) = min_c Q'_c(s, mode pi(.|s)), (n, S) -> (n, 1)."""
        return min_q((self.critic1_old, self.critic2_old), obs, self.actor(obs).mode()[0])

    def model_updates(self, real_buffer: ReplayBuffer, *, first: bool = True) -> Iterator[Metrics]:
        """Endless model updates; a round's first also tells the outer loss before its step."""
        update = {
            "exact": self._exact_update,
            "release": self._release_update,
            "no_weighting": self._unweighted_update,
        }[self._variant]
        batch = real_buffer.sample(self._adv_rollout_batch_size)
        before = {}
        if first:
            with torch.no_grad():
                before["romi/outer_loss_before"] = self._outer_rows(batch).mean()
        while True:
            metrics = update(batch)
            yield {f"romi/{name}": x.detach() for name, x in metrics.items()} | before
            before = {}
            batch = real_buffer.sample(self._adv_rollout_batch_size)

    @property
    def _updates_that_belong_together(self) -> int:
        return 1

    def _exact_update(self, batch: Batch) -> Metrics:
        """Inner step, outer gradient after it, alignment before it, weighting step."""
        optim, params = self._dynamics_adv_optim, self.dynamics.parameters
        weights = self._weights(batch)
        record = self.dynamics.weighted_pass(batch, weights, LOGVAR_LOSS_COEF)
        apply_gradients(optim, params, record.grads)
        outer = self._outer_rows(batch).mean()
        direction = torch.autograd.grad(outer, params)
        product = precondition(optim, params, record.grads, direction, self._preconditioner)
        alignment = self.dynamics.alignment(record, product)
        surrogate = hypergradient_surrogate(weights, alignment, optim.param_groups[0]["lr"])
        hypergradient = self._weighting_step(surrogate)
        return {
            "inner_loss": record.loss,
            "outer_loss": outer,
            "inner_grad_norm": _norm(record.grads),
            "outer_grad_norm": _norm(direction),
            "hypergrad_norm": hypergradient,
            "alignment_mean": alignment.mean(),
            **self._weight_metrics(weights),
        }

    def _release_update(self, batch: Batch) -> Metrics:
        """The published code's update: row groups, a moving baseline, and its ascent sign."""
        optim, params = self._dynamics_adv_optim, self.dynamics.parameters
        weights = self._weights(batch)
        plain = self.dynamics.weighted_pass(batch, torch.ones_like(weights), None)
        record = self.dynamics.weighted_pass(batch, weights, None)
        apply_gradients(optim, params, record.grads)
        rows = self._outer_rows(batch, mask_terminals=False)
        groups = rows.view(RELEASE_GROUPS, -1).mean(1)
        directions = [torch.autograd.grad(loss, params, retain_graph=True) for loss in groups]
        inner = torch.stack([_dot(plain.grads, direction) for direction in directions])
        rewards = inner / RELEASE_SCALE
        baseline = torch.nan_to_num(self._baseline, nan=0.0)
        group_weights = weights.view(RELEASE_GROUPS, -1).mean(1)
        surrogate = (group_weights * (rewards - baseline)).sum() / len(weights)
        hypergradient = self._weighting_step(surrogate)
        mean = rewards.mean()
        moved = baseline + RELEASE_BASELINE_RATE * (mean - baseline)
        self._baseline.copy_(torch.where(self._baseline.isnan(), mean, moved))
        outer_grads = [torch.stack(g).mean(0) for g in zip(*directions, strict=True)]
        return {
            "inner_loss": record.loss,
            "outer_loss": rows.mean(),
            "inner_grad_norm": _norm(record.grads),
            "outer_grad_norm": _norm(outer_grads),
            "hypergrad_norm": hypergradient,
            "alignment_mean": mean,
            **self._weight_metrics(weights),
        }

    def _unweighted_update(self, batch: Batch) -> Metrics:
        """The model descends the outer loss itself, and the likelihood of a predicted reward."""
        params = self.dynamics.parameters
        outer = self._outer_rows(batch).mean()
        grads = torch.autograd.grad(outer, params)
        metrics = {"outer_loss": outer, "outer_grad_norm": _norm(grads)}
        if self._reward_likelihood and getattr(self.dynamics, "reward_fn", None) is None:
            metrics["reward_loss"] = self.dynamics.reward_loss(batch)
            own = torch.autograd.grad(metrics["reward_loss"], params)
            grads = tuple(torch._foreach_add(grads, own))
        apply_gradients(self._dynamics_adv_optim, params, grads)
        return metrics

    def _weights(self, batch: Batch) -> torch.Tensor:
        return self.weighting_net(
            batch["observations"], batch["actions"], batch["next_observations"]
        )

    def _outer_rows(self, batch: Batch, mask_terminals: bool = True) -> torch.Tensor:
        """Rows of the robust value-aware loss, (B, 1), with graph to the model alone."""
        obs, next_obs = batch["observations"], batch["next_observations"]
        terminal = batch["terminals"] if mask_terminals else torch.zeros_like(batch["terminals"])
        with torch.no_grad():
            target = robust_target(self.value, self._candidates(next_obs))
        model = self.dynamics.model
        shape = (model.num_ensemble, len(obs), len(model.max_logvar))
        noise = torch.randn(
            shape, dtype=obs.dtype, device=obs.device, generator=self.dynamics.generator
        )
        samples = self.dynamics.sample_members(obs, batch["actions"], noise)
        return robust_value_rows(self.value, samples, target, terminal)

    def _candidates(self, next_obs: torch.Tensor) -> torch.Tensor:
        """Noise of the uncertainty set drawn from the policy's generator, (B, S) -> (N+1, B, S)."""
        like: dict[str, Any] = {
            "dtype": next_obs.dtype,
            "device": next_obs.device,
            "generator": self.generator,
        }
        noise = torch.randn((self._num_perturbations, *next_obs.shape), **like)
        radius = None
        if self._uncertainty_set == "ball":
            radius = torch.rand((*noise.shape[:2], 1), **like)
        return perturb(next_obs, noise, self._xi, self._uncertainty_set, radius)

    def _weighting_step(self, surrogate: torch.Tensor) -> torch.Tensor:
        """Descend the surrogate on nu; returns the gradient's norm."""
        params = list(self.weighting_net.parameters())
        grads = torch.autograd.grad(surrogate, params)
        apply_gradients(self._weighting_optim, params, grads)
        return _norm(grads)

    def _weight_metrics(self, weights: torch.Tensor) -> Metrics:
        low, high = self.weighting_net.low, self.weighting_net.high
        margin = 0.01 * (high - low)
        at_bounds = (weights < low + margin) | (weights > high - margin)
        return {
            "weight_mean": weights.mean(),
            "weight_min": weights.min(),
            "weight_max": weights.max(),
            "weight_at_bounds": at_bounds.to(weights.dtype).mean(),
        }


def _norm(tensors: Any) -> torch.Tensor:
    return torch.stack(torch._foreach_norm(list(tensors))).norm()


def _dot(left: Any, right: Any) -> torch.Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(left, right, strict=True)]).sum()


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}: {value!r}")
