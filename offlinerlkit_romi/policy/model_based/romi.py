r"""ROMI: RAMBO whose model update weighs the likelihood, the weights by a robust value-aware loss.

Paper: Qiao et al., "Model-based Offline RL via Robust Value-Aware Model Learning with Implicitly
Differentiable Adaptive Weighting", ICLR 2026, arXiv 2603.08118 (not the 2021 "Reverse Offline
Model-based Imagination"). Everything but the model update is RAMBO's. With V(s) = min_c Q'_c(s,
mode pi(s)), an update (Algorithm 1) is

    inner   psi' = psi - step(grad mean_i w_i nll_i(psi) + regulariser)
    outer   L(psi') = mean_i sum_e (V(s_i + delta_e) - m_i)^2,   m_i = min over U_xi(s'_i) of V
    weights nu descends grad_nu L(psi'(nu)), see `bilevel`

Variants: `exact` is the above; `release` is what the published code computes; `no_weighting` trains
the model on the outer loss alone (the ablation of Section 5.2). That loss sees next observations
only: a predicted reward keeps its own likelihood, for the paper's is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from offlinerlkit_romi.bilevel import dot, hypergradient_surrogate, norm_of, precondition
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics.weighted_dynamics import WeightedPass, WeightedPasses
from offlinerlkit_romi.engine import apply_gradients, make_adam, normal, uniform
from offlinerlkit_romi.modules import WeightingNet
from offlinerlkit_romi.policy.base_policy import Batch, Metrics, Ours, check_choice
from offlinerlkit_romi.policy.model_based.rambo import LOGVAR_LOSS_COEF, RAMBOPolicy
from offlinerlkit_romi.policy.model_free.sac import min_q
from offlinerlkit_romi.policy.soft_policy import Alpha
from offlinerlkit_romi.utils.scaler import StandardScaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

Value = Callable[[torch.Tensor], torch.Tensor]
# the inner optimisers: how one is made of parameters and `lr`, and which preconditioner is exact
# for its step, see `bilevel.precondition`
INNER: dict[str, tuple[Callable[..., torch.optim.Optimizer], str]] = {
    "adam": (make_adam, "adam"),
    "sgd": (torch.optim.SGD, "identity"),
}
# the published code's row groups, scale and moving-average rate (docs/algorithms/romi.md)
RELEASE_GROUPS, RELEASE_SCALE, RELEASE_BASELINE_RATE = 4, 100.0, 0.1
TENTHS = 10  # of the weights' range, which their histogram counts


def relative_set(
    next_obs: torch.Tensor, xi: float, count: int, generator: torch.Generator | None
) -> torch.Tensor:
    """N states s' + (xi ||s'|| / 3) z, z standard normal (published code), (B, S) -> (N, B, S)."""
    noise = normal((count, *next_obs.shape), next_obs, generator)
    return next_obs + noise * (xi * next_obs.norm(dim=-1, keepdim=True) / 3)


def ball(
    next_obs: torch.Tensor, xi: float, count: int, generator: torch.Generator | None
) -> torch.Tensor:
    """N states uniform in the ball of radius xi around s' (Definition 4.1), (B, S) -> (N, B, S)."""
    noise = normal((count, *next_obs.shape), next_obs, generator)
    radius = uniform((count, len(next_obs), 1), next_obs, generator)
    # the S-th root makes the points uniform in volume
    length = xi * radius ** (1 / next_obs.shape[-1])
    return next_obs + noise / noise.norm(dim=-1, keepdim=True) * length


# the uncertainty sets U_xi(s') around a standardised next observation
SETS = {"relative": relative_set, "ball": ball}


def robust_target(value: Value, next_obs: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Smallest V among s' (B, S) and the other states of its set (N, B, S), m, (B, 1)."""
    candidates = torch.cat([others, next_obs.unsqueeze(0)])
    # (N+1, B, S) -> ((N+1)*B, S) -> (N+1, B, 1)
    values = value(candidates.flatten(0, 1)).view(*candidates.shape[:2], 1)
    return values.amin(0)


def robust_value_rows(
    value: Value, samples: torch.Tensor, target: torch.Tensor, terminal: torch.Tensor
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
    """ROMI's model updates over a RAMBO, this package's or the kit's, which follows in the bases.

    Takes what that RAMBO takes, `adv_weight`, `adv_rollout_length` and `include_ent_in_adv` without
    effect, and

    Args:
        dynamics: the learned simulator, with `WeightedPasses`.
        weighting_net: (s, a, s') -> w.
        dynamics_adv_optim: inner optimiser: Adam, or SGD without momentum.
        weighting_optim: outer optimiser, of the weighting network.
        xi: scale of the uncertainty set.
        num_perturbations: draws from the set, N.
        variant: one of `VARIANTS`.
        uncertainty_set: one of `SETS`.
        preconditioner: `adam` (exact for the inner step, Adam's or SGD's) or `identity` (the
            paper's derivation).
        reward_likelihood: in `no_weighting`, train a predicted reward on its own likelihood:
            nothing else there does.
        ours: see `Ours`; RAMBO's, the model update knows no `compat`.

    Raises:
        ValueError: unknown variant, set or preconditioner, rows that `release` cannot group, or
            dynamics without weighted passes.
    """

    needs = "offlinerlkit_romi.dynamics.WeightedEnsembleDynamics"
    dynamics: Any
    actor: nn.Module
    critic1_old: nn.Module
    critic2_old: nn.Module
    generator: torch.Generator | None
    _adv_rollout_batch_size: int
    _baseline: torch.Tensor

    def __init__(
        self,
        dynamics: WeightedPasses,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        weighting_net: WeightingNet,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        dynamics_adv_optim: torch.optim.Optimizer,
        weighting_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        adv_weight: float = 0.0,
        adv_train_steps: int = 1000,
        adv_rollout_batch_size: int = 256,
        adv_rollout_length: int = 5,
        include_ent_in_adv: bool = False,
        scaler: StandardScaler | None = None,
        device: str | torch.device = "cpu",
        xi: float = 0.01,
        *,
        num_perturbations: int = 10,
        variant: str = "exact",
        uncertainty_set: str = "relative",
        preconditioner: str = "adam",
        reward_likelihood: bool = True,
        **ours: Unpack[Ours],
    ) -> None:
        if not isinstance(dynamics, WeightedPasses):
            raise ValueError(
                f"ROMIPolicy needs {self.needs}, not "
                f"{type(dynamics).__module__}.{type(dynamics).__name__}: change that import too"
            )
        check_choice("variant", variant, VARIANTS)
        check_choice("uncertainty_set", uncertainty_set, SETS)
        check_choice("preconditioner", preconditioner, [exact for _, exact in INNER.values()])
        if variant == "release" and adv_rollout_batch_size % RELEASE_GROUPS:
            raise ValueError(
                f"variant 'release' splits its rows into {RELEASE_GROUPS} groups of one size: "
                f"adv_rollout_batch_size {adv_rollout_batch_size} is not a multiple"
            )
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        rollouts = adv_rollout_batch_size, adv_rollout_length
        adversary = adv_weight, adv_train_steps, *rollouts, include_ent_in_adv
        parts = (dynamics, *nets, *optims, dynamics_adv_optim)
        super().__init__(*parts, tau, gamma, alpha, *adversary, scaler, device, **ours)
        self.weighting_net, self._weighting_optim = weighting_net, weighting_optim
        self._dynamics_adv_optim = dynamics_adv_optim  # the kit's RAMBO has another name for it
        self._xi, self._num_perturbations = xi, num_perturbations
        self._variant, self._uncertainty_set = variant, uncertainty_set
        self._preconditioner, self._reward_likelihood = preconditioner, reward_likelihood
        # NaN until the first update of `release`; outside the state dict as in the published code
        nan = torch.full((), torch.nan, device=next(weighting_net.parameters()).device)
        self.register_buffer("_baseline", nan, persistent=False)

    def model_updates(self, real_buffer: ReplayBuffer, *, first: bool = True) -> Iterator[Metrics]:
        """Endless model updates; a round's first also tells the outer loss before its step."""
        batch = real_buffer.sample(self._adv_rollout_batch_size)
        before = {}
        if first:
            with torch.no_grad():
                before["romi/outer_loss_before"] = self._outer_rows(batch).mean()
        while True:
            metrics = VARIANTS[self._variant](self, batch)
            yield {f"romi/{name}": x.detach() for name, x in metrics.items()} | before
            before = {}
            batch = real_buffer.sample(self._adv_rollout_batch_size)

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
        norm = self._weighting_step(surrogate)
        return self._report(weights, record, outer, direction, alignment.mean(), norm)

    def _weights(self, batch: Batch) -> torch.Tensor:
        """w, (B, 1), with graph to the weighting network."""
        return self.weighting_net(
            batch["observations"], batch["actions"], batch["next_observations"]
        )

    def _outer_rows(self, batch: Batch, mask_terminals: bool = True) -> torch.Tensor:
        """Rows of the robust value-aware loss, (B, 1), with graph to the model alone."""
        obs, terminal = batch["observations"], batch["terminals"]
        target = self._target(batch["next_observations"])
        model = self.dynamics.model
        shape = (model.num_ensemble, len(obs), len(model.max_logvar))
        noise = normal(shape, obs, self.dynamics.generator)
        samples = self.dynamics.sample_members(obs, batch["actions"], noise)
        terminal = terminal if mask_terminals else torch.zeros_like(terminal)
        return robust_value_rows(self.value, samples, target, terminal)

    @torch.no_grad()
    def weight_shares(self, batch: Batch) -> Metrics:
        """Share of a batch's weights in each tenth of their range, as ten metrics."""
        if self._variant == "no_weighting":
            return {}
        net, weights = self.weighting_net, self._weights(batch)
        inner = torch.linspace(net.low, net.high, TENTHS + 1, device=weights.device)[1:-1]
        tenths = torch.arange(TENTHS, device=weights.device)
        # (B, 1) == (10,) -> (10,)
        shares = (torch.bucketize(weights, inner) == tenths).float().mean(0)
        return {f"romi/weight_share_{place}": x for place, x in enumerate(shares, start=1)}

    @torch.no_grad()
    def _target(self, next_obs: torch.Tensor) -> torch.Tensor:
        """m, over states drawn from the set, (B, S) -> (B, 1)."""
        draw = SETS[self._uncertainty_set]
        others = draw(next_obs, self._xi, self._num_perturbations, self.generator)
        return robust_target(self.value, next_obs, others)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V(s) = min_c Q'_c(s, mode pi(.|s)), (n, S) -> (n, 1)."""
        return min_q((self.critic1_old, self.critic2_old), obs, self.actor(obs).mode()[0])

    def _weighting_step(self, surrogate: torch.Tensor) -> torch.Tensor:
        """Descend the surrogate on nu; returns the gradient's norm."""
        params = list(self.weighting_net.parameters())
        grads = torch.autograd.grad(surrogate, params)
        apply_gradients(self._weighting_optim, params, grads)
        return norm_of(grads)

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
        rewards = torch.stack([dot(plain.grads, u) for u in directions]) / RELEASE_SCALE
        baseline = torch.nan_to_num(self._baseline, nan=0.0)
        group_weights = weights.view(RELEASE_GROUPS, -1).mean(1)
        surrogate = (group_weights * (rewards - baseline)).sum() / len(weights)
        norm = self._weighting_step(surrogate)
        mean = rewards.mean()
        moved = baseline + RELEASE_BASELINE_RATE * (mean - baseline)
        self._baseline.copy_(torch.where(self._baseline.isnan(), mean, moved))
        direction = [torch.stack(u).mean(0) for u in zip(*directions, strict=True)]
        return self._report(weights, record, rows.mean(), direction, mean, norm)

    def _unweighted_update(self, batch: Batch) -> Metrics:
        """The model descends the outer loss itself, and the likelihood of a predicted reward."""
        params = self.dynamics.parameters
        outer = self._outer_rows(batch).mean()
        grads = torch.autograd.grad(outer, params)
        metrics = {"outer_loss": outer, "outer_grad_norm": norm_of(grads)}
        if self._reward_likelihood and getattr(self.dynamics, "reward_fn", None) is None:
            metrics["reward_loss"] = self.dynamics.reward_loss(batch)
            own = torch.autograd.grad(metrics["reward_loss"], params)
            grads = tuple(torch._foreach_add(grads, own))
        apply_gradients(self._dynamics_adv_optim, params, grads)
        return metrics

    def _report(
        self,
        weights: torch.Tensor,
        record: WeightedPass,
        outer: torch.Tensor,
        direction: Any,
        alignment: torch.Tensor,
        hypergradient: torch.Tensor,
    ) -> Metrics:
        low, high = self.weighting_net.low, self.weighting_net.high
        margin = 0.01 * (high - low)
        at_bounds = (weights < low + margin) | (weights > high - margin)
        return {
            "inner_loss": record.loss,
            "outer_loss": outer,
            "inner_grad_norm": norm_of(record.grads),
            "outer_grad_norm": norm_of(direction),
            "hypergrad_norm": hypergradient,
            "alignment_mean": alignment,
            "weight_mean": weights.mean(),
            "weight_min": weights.min(),
            "weight_max": weights.max(),
            "weight_at_bounds": at_bounds.to(weights.dtype).mean(),
        }


VARIANTS: dict[str, Callable[[ROMIUpdate, Batch], Metrics]] = {
    "exact": ROMIUpdate._exact_update,
    "release": ROMIUpdate._release_update,
    "no_weighting": ROMIUpdate._unweighted_update,
}


class ROMIPolicy(ROMIUpdate, RAMBOPolicy):
    """This package's RAMBO with ROMI's model updates; takes what `ROMIUpdate` says."""

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        own = {"weighting_optim": self._weighting_optim, "baseline": self._baseline}
        return super().training_state() | self._parts("weighting_net") | own

    @property
    def _updates_that_belong_together(self) -> int:
        return 1
