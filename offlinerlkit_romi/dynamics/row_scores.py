"""Gradients of single rows' log-densities under an ensemble, by their inner products alone.

A row belongs to one member, and its gradient of a linear layer is the outer product of the layer's
input and the back-propagated delta: one forward and one backward pass for all rows give every inner
product, and no gradient of a row is ever formed. Shapes: R rows, E members, G rows of the fullest
member.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from offlinerlkit_romi.bilevel import Tensors, linear_gram, linear_rows
from offlinerlkit_romi.dynamics.losses import gaussian_log_prob
from offlinerlkit_romi.modules import EnsembleDynamicsModel
from offlinerlkit_romi.modules.dynamics_module import clamp_slopes, forward_recorded


def places_by_member(member: torch.Tensor, members: int) -> tuple[torch.Tensor, int]:
    """Where each row goes in a batch (E, G) by member: flat places (R,), and G; waits once."""
    belongs = torch.nn.functional.one_hot(member, members)  # (R, E)
    rank = (belongs.cumsum(0) * belongs).sum(1) - 1
    size = int(belongs.sum(0).max())
    return member * size + rank, size


def by_member(rows: torch.Tensor, place: torch.Tensor, members: int, size: int) -> torch.Tensor:
    """Rows (R, k) at their places in (E, G, k), zeros elsewhere."""
    spread = rows.new_zeros(members * size, rows.shape[-1])
    spread[place] = rows
    return spread.view(members, size, -1)


class RowScores(NamedTuple):
    """The gradients of R rows' log-densities, factored.

    Attributes:
        model: the ensemble.
        place: of each row among (E, G), (R,).
        inputs: of every linear layer, (E, G, in).
        deltas: gradients at every linear layer's output, (E, G, out).
        bounds: gradients of `min_logvar` and `max_logvar`, (R, D) each.
    """

    model: EnsembleDynamicsModel
    place: torch.Tensor
    inputs: list[torch.Tensor]
    deltas: tuple[torch.Tensor, ...]
    bounds: tuple[torch.Tensor, torch.Tensor]

    @classmethod
    def of(
        cls,
        model: EnsembleDynamicsModel,
        inputs: torch.Tensor,
        member: torch.Tensor,
        sample: torch.Tensor,
    ) -> RowScores:
        """Of samples (R, D) at scaled inputs (R, S+A) under each row's own member (R,)."""
        members = model.num_ensemble
        place, size = places_by_member(member, members)
        given, drawn = (by_member(x, place, members, size) for x in (inputs, sample))
        mean, logvar, calls = forward_recorded(model, given)
        total = gaussian_log_prob(mean, logvar, drawn).flatten()[place].sum()
        outputs = [output for _, _, output in calls]
        *deltas, at_logvar = torch.autograd.grad(total, [*outputs, logvar])
        raw = outputs[-1].detach().chunk(2, dim=-1)[1]
        slopes = clamp_slopes(raw, model.min_logvar.detach(), model.max_logvar.detach())
        low, high = ((at_logvar * slope).flatten(0, 1)[place] for slope in slopes)
        return cls(model, place, [x.detach() for _, x, _ in calls], tuple(deltas), (low, high))

    def gram(self) -> torch.Tensor:
        """Inner products of all pairs of rows' gradients, (R, R)."""
        layers = zip(self.inputs, self.deltas, strict=True)
        blocks = torch.stack([linear_gram(x, delta) for x, delta in layers]).sum(0)
        size = blocks.shape[-1]
        member, rank = self.place // size, self.place % size
        within = blocks[member.unsqueeze(1), rank.unsqueeze(1), rank]
        # members share nothing but the bounds
        shared = sum(bound @ bound.mT for bound in self.bounds)
        return within * (member.unsqueeze(1) == member) + shared

    def along(self, direction: Tensors) -> torch.Tensor:
        """Inner products of the rows' gradients with a direction in the parameters, (R,)."""
        model, place = self.model, self.place
        trained = [p for p in model.parameters() if p.requires_grad]
        blocks = dict(zip(trained, direction, strict=True))
        total = torch.zeros_like(self.bounds[0][:, 0])
        for layer, inputs, delta in zip(model.layers, self.inputs, self.deltas, strict=True):
            rows = linear_rows(inputs, delta, blocks[layer.weight], blocks[layer.bias])
            total += rows.flatten()[place]
        for bound, name in zip(self.bounds, (model.min_logvar, model.max_logvar), strict=True):
            total += bound @ blocks[name]
        return total


def members_predict(
    model: EnsembleDynamicsModel, members: torch.Tensor, inputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of some members (M,) at scaled inputs, (R, S+A) -> (M, R, D)."""
    return model.forward_members(inputs.expand(len(members), -1, -1), members)


def member_log_prob(
    model: EnsembleDynamicsModel, inputs: torch.Tensor, member: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Log-densities of samples (R, D) at inputs (R, S+A) under each row's member (R,), (R,)."""
    place, size = places_by_member(member, model.num_ensemble)
    given, drawn = (by_member(x, place, model.num_ensemble, size) for x in (inputs, sample))
    mean, logvar = model(given)
    return gaussian_log_prob(mean, logvar, drawn).flatten()[place]
