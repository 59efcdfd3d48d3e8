"""What ROMI asks of a dynamics model beyond the kit's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from offlinerlkit_romi.bilevel import Tensors, linear_alignment
from offlinerlkit_romi.dynamics.ensemble_dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.losses import gaussian_nll, regulariser
from offlinerlkit_romi.modules.dynamics_module import (
    EnsembleDynamicsModel,
    LayerCall,
    clamp_slopes,
    forward_recorded,
)


class WeightedPass(NamedTuple):
    """One backward pass of the weighted loss, and what per-row gradients need of it."""

    loss: torch.Tensor  # scalar
    grads: tuple[torch.Tensor, ...]  # one per parameter
    calls: list[LayerCall]  # (layer, input, output) per linear layer, without graph
    deltas: tuple[torch.Tensor, ...]  # gradient at every layer's output, (E, B, out)
    logvar_delta: torch.Tensor  # gradient at the clamped log-variance, (E, B, D)
    bounds: tuple[torch.Tensor, torch.Tensor]  # log-variance bounds before any step, (D,) each
    weights: torch.Tensor  # (B, 1)


class WeightedPasses:
    """A weighted likelihood and its per-row alignment, for an ensemble with the kit's nouns.

    Attributes:
        model: an `EnsembleDynamicsModel`, this package's or OfflineRL-Kit's.
        generator: source of noise.
    """

    model: Any
    generator: torch.Generator | None

    def inputs(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Scaled model input, (B, S), (B, A) -> (B, S+A)."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters, in a fixed order."""
        # the kit's remembered weights are parameters too, which no loss reaches
        named = self.model.named_parameters()
        return [p for name, p in named if p.requires_grad and ".saved_" not in name]

    def weighted_pass(
        self,
        batch: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        logvar_loss_coef: float | None,
    ) -> WeightedPass:
        """One backward pass of mean_i w_i nll_i plus the regulariser.

        Args:
            batch: B transitions.
            weights: w, (B, 1), a constant here.
            logvar_loss_coef: factor of the log-variance bound term; none leaves out the whole
                regulariser.
        """
        obs = batch["observations"]
        target = torch.cat([batch["next_observations"] - obs, batch["rewards"]], dim=-1)
        mean, logvar, calls = forward_recorded(self.model, self.inputs(obs, batch["actions"]))
        # (E, B) * (B,) -> scalar
        loss = (gaussian_nll(mean, logvar, target) * weights.detach().squeeze(-1)).mean(1).sum()
        if logvar_loss_coef is not None:
            loss = loss + regulariser(self.model, logvar_loss_coef)
        outputs = [output for _, _, output in calls]
        params = self.parameters
        grads = torch.autograd.grad(loss, [*params, *outputs, logvar])
        n = len(params)
        bounds = (
            self.model.min_logvar.detach().clone(),
            self.model.max_logvar.detach().clone(),
        )
        calls = [(layer, given.detach(), made.detach()) for layer, given, made in calls]
        return WeightedPass(
            loss.detach(), grads[:n], calls, grads[n:-1], grads[-1], bounds, weights.detach()
        )

    def reward_loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the reward adds to mean_i nll_i, a scalar with graph: its 1/D of every row's."""
        mean, logvar = self.model(self.inputs(batch["observations"], batch["actions"]))
        nll = gaussian_nll(mean[..., -1:], logvar[..., -1:], batch["rewards"])
        return nll.mean(1).sum() / mean.shape[-1]

    @torch.no_grad()
    def alignment(self, record: WeightedPass, direction: Tensors) -> torch.Tensor:
        """c_i = <direction, grad nll_i> for every row, at the parameters of `record`, (B,).

        One product per layer: the inputs and deltas of the weighted pass are used again.
        """
        blocks = dict(zip(self.parameters, direction, strict=True))
        total = torch.zeros_like(record.weights[:, 0])
        for (layer, inputs, _), delta in zip(record.calls, record.deltas, strict=True):
            total += linear_alignment(inputs, delta, blocks[layer.weight], blocks[layer.bias])
        raw_logvar = record.calls[-1][2].chunk(2, dim=-1)[1]
        tangent = clamp_bounds_tangent(
            raw_logvar,
            record.bounds,
            (blocks[self.model.min_logvar], blocks[self.model.max_logvar]),
        )
        total += (tangent * record.logvar_delta).sum((0, 2))
        # the pass differentiated mean_i w_i nll_i: undo w_i / B
        return total * len(total) / record.weights[:, 0]

    def sample_members(
        self, obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """A next observation per member with graph, (B, S), (B, A), (E, B, D) -> (E, B, S)."""
        mean, logvar = self.model(self.inputs(obs, action))
        return obs + (mean + torch.exp(0.5 * logvar) * noise)[..., :-1]


class WeightedEnsembleDynamics(EnsembleDynamics, WeightedPasses):
    """`EnsembleDynamics` that ROMI can train."""

    model: EnsembleDynamicsModel


def clamp_bounds_tangent(
    raw: torch.Tensor,
    bounds: tuple[torch.Tensor, torch.Tensor],
    direction: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Change of `soft_clamp(raw, low, high)` when (low, high) move along `direction`, (..., D)."""
    of_low, of_high = clamp_slopes(raw, *bounds)
    return of_high * direction[1] + of_low * direction[0]
