r"""The implicit gradient of the weighting network, as pure functions of tensors.

The inner step moves the model's parameters by an optimiser step on a weighted loss,

    psi'(nu) = psi - beta_1 * step(g),    g = (1/B) sum_i w_i(nu) grad nll_i(psi) + ...

and the outer loss is L(psi'). With P the elementwise derivative of `step` with respect to g and u =
grad L(psi'),

    grad_nu L(psi'(nu)) = -(beta_1/B) sum_i c_i grad_nu w_i,    c_i = < P u, grad nll_i(psi) >.

Source: the chain rule; ROMI paper Eq. 10 with the sign that a *negative* log-likelihood needs.
Nothing here knows a policy or a dynamics model. Shapes: B rows, any parameter shapes.

The second part is a leader's gradient against a follower that answers (ROMBRL, arXiv 2505.13709):
with A the follower's curvature, g and b the gradients of what the leader wants and of the
follower's constraint, it needs A^-1 g and A^-1 b along the rows of a factor P alone,

    A = c I + P^T D P,    P A^-1 v = (c I + G D)^-1 P v,    G = P P^T    (push-through identity),

so that nothing has the size of the parameters but the vectors g and b. R rows of P.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

Tensors = Sequence[torch.Tensor]
FLAT = 1e-12  # b^T A^-1 b below which the constraint is not felt


def adam_preconditioner(
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    step: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
) -> torch.Tensor:
    """Derivative of Adam's step (without its rate) with respect to the gradient, elementwise.

    Args:
        grad: gradient of this step.
        exp_avg: first moment *after* the step.
        exp_avg_sq: second moment after the step.
        step: number of this step, from 1.
        betas: decay rates of the moments.
        eps: Adam's constant.

    Where the gradient has always been zero the step is taken as not depending on it through the
    second moment.
    """
    beta1, beta2 = betas
    # float32 powers lose 1 - beta2 at the first steps
    step = step.double() if isinstance(step, torch.Tensor) else step
    correction1 = 1 - beta1**step
    correction2 = 1 - beta2**step
    root = (exp_avg_sq / correction2).sqrt()
    denominator = root + eps
    direct = (1 - beta1) / (correction1 * denominator)
    safe_root = root.clamp_min(torch.finfo(root.dtype).tiny)
    scale = (exp_avg / correction1) / denominator
    # grad / root is at most sqrt(correction2 / (1 - beta2)): no product here can overflow
    through_second = scale * ((1 - beta2) / correction2) * (grad / safe_root) / denominator
    return direct - torch.where(root > 0, through_second, torch.zeros_like(root))


def precondition(
    optim: torch.optim.Optimizer,
    params: Tensors,
    grads: Tensors,
    direction: Tensors,
    mode: str = "adam",
) -> list[torch.Tensor]:
    """P u for the step that `optim` has just taken along `grads`.

    Args:
        optim: SGD without momentum, or Adam without weight decay and AMSGrad.
        params: the parameters that were stepped.
        grads: the gradients of that step.
        direction: u.
        mode: `adam` for the exact derivative, `identity` for the paper's derivation.

    Raises:
        ValueError: the optimiser's step is not one of those.
    """
    if mode == "identity" or isinstance(optim, torch.optim.SGD):
        _check_plain_sgd(optim)
        return list(direction)
    if mode != "adam":
        raise ValueError(f"preconditioner is 'adam' or 'identity', not {mode!r}")
    group = _adam_group(optim)
    products = []
    for param, grad, u in zip(params, grads, direction, strict=True):
        state = optim.state[param]
        slope = adam_preconditioner(
            grad, state["exp_avg"], state["exp_avg_sq"], state["step"], group["betas"], group["eps"]
        )
        products.append(slope * u)
    return products


def alignment_jvp(
    row_losses: Callable[[Tensors], torch.Tensor], params: Tensors, direction: Tensors
) -> torch.Tensor:
    """c_i for all rows in one forward-mode pass: the oracle.

    Args:
        row_losses: parameters -> per-row losses (B,).
        params: where to differentiate.
        direction: P u.

    Returns:
        (B,) directional derivatives.
    """
    primals = tuple(p.detach() for p in params)
    tangents = tuple(d.detach() for d in direction)
    outputs = torch.func.jvp(lambda *p: row_losses(p), primals, tangents)
    return outputs[1]


def linear_alignment(
    inputs: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """One linear layer's part of <direction, row gradient>, for all rows.

    A row's gradient of a linear layer is the outer product of its input h and its back-propagated
    delta, so its inner product with a direction U is <h U, delta>.

    Args:
        inputs: h, (B, in) or (E, B, in).
        delta: gradient of the loss at the layer's output, (E, B, out); row i's entry stems from row
            i's loss alone.
        weight: U, the direction's block, (E, in, out).
        bias: the direction's block, (E, 1, out).

    Returns:
        (B,), summed over E.
    """
    if inputs.dim() == 2:
        inputs = inputs.expand(len(weight), *inputs.shape)
    return (torch.baddbmm(bias, inputs, weight) * delta).sum((0, 2))


def linear_rows(
    inputs: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """`linear_alignment` of rows that each belong to one member, inputs (E, G, in) -> (E, G)."""
    return (torch.baddbmm(bias, inputs, weight) * delta).sum(2)


def linear_gram(inputs: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """One linear layer's part of the inner products between rows' gradients, weight and bias.

    Args:
        inputs: h, (E, G, in).
        delta: as in `linear_alignment`, (E, G, out).

    Returns:
        (E, G, G): (h_j h_k + 1) (delta_j delta_k) within each member.
    """
    return (inputs @ inputs.mT + 1) * (delta @ delta.mT)


def hypergradient_surrogate(
    weights: torch.Tensor, alignment: torch.Tensor, inner_lr: float | torch.Tensor
) -> torch.Tensor:
    """Scalar whose gradient in nu is grad_nu L(psi'(nu)).

    Args:
        weights: w_i(nu) with graph, (B, 1).
        alignment: c_i, (B,); treated as constant.
        inner_lr: beta_1.
    """
    assert weights.shape == (len(alignment), 1), (weights.shape, alignment.shape)
    rate = inner_lr.to(weights.dtype) if isinstance(inner_lr, torch.Tensor) else inner_lr
    return -rate * (weights.squeeze(-1) * alignment.detach()).mean()


def pair_weights(weight: torch.Tensor, episode: torch.Tensor) -> torch.Tensor:
    """Weights of pairs of a trajectory's rows in the curvature of an expected return.

    The rows' score-function identity is sum_t a_t (grad l_t) (sum_t' grad l_t')^T; with the Fisher
    approximation of grad^2 l the terms of one time cancel.

    Args:
        weight: a, (n, h).
        episode: number of the episode that each row belongs to, (n, h).

    Returns:
        (n, h, h): the symmetric part of a_t for t != t' within one episode, zero elsewhere.
    """
    pairs = 0.5 * (weight.unsqueeze(2) + weight.unsqueeze(1))
    together = episode.unsqueeze(2) == episode.unsqueeze(1)
    return (pairs * together).tril(-1) + (pairs * together).triu(1)


class Curvature(NamedTuple):
    """A = c I + P^T D P, known by inner products alone.

    Attributes:
        gram: G = P P^T, (R, R).
        weights: D, (R, R), symmetric.
        damping: c, ().
    """

    gram: torch.Tensor
    weights: torch.Tensor
    damping: torch.Tensor

    def solve(self, along: torch.Tensor) -> torch.Tensor:
        """P A^-1 v for vectors v given by P v, (R, k) -> (R, k)."""
        system = self.gram @ self.weights
        system.diagonal().add_(self.damping)
        return torch.linalg.solve(system, along)

    def inner(
        self, product: torch.Tensor, along: torch.Tensor, solved: torch.Tensor
    ) -> torch.Tensor:
        """u^T A^-1 v from u v (), P u (R,) and P A^-1 v (R,)."""
        return (product - along @ self.weights @ solved) / self.damping


def smallest_eigenvalue(gram: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of P^T D P: of L^T D L, where L L^T is the Gram matrix (R, R); at most 0.

    NaN where an entry is not finite: the decomposition itself would raise.
    """
    values, vectors = torch.linalg.eigh(gram.nan_to_num(posinf=0, neginf=0))
    root = vectors * values.clamp_min(0).sqrt()
    inner = (root.mT @ weights @ root).nan_to_num(posinf=0, neginf=0)
    return torch.linalg.eigvalsh(inner)[0].clamp_max(0) + 0 * (gram.sum() + weights.sum())


def constrained_response(
    answer: Any, constraint: Any, overlap: Any, beta: Any, gap: Any, multiplier: Any
) -> Any:
    """H g, the follower's answer at the KKT point of its constrained problem; numbers or tensors.

    H is the upper left block of [[A, b], [lambda b^T, C]]^-1, written so that nothing is divided by
    what may vanish; a violated constraint (C > 0) counts as active.

    Args:
        answer: A^-1 g, or P A^-1 g.
        constraint: A^-1 b, or P A^-1 b.
        overlap: b^T A^-1 g.
        beta: b^T A^-1 b.
        gap: C, at most 0 where the constraint holds.
        multiplier: lambda > 0.
    """
    slack = (abs(gap) - gap) / 2
    factor = (beta > FLAT) / (slack / multiplier + beta + (beta <= FLAT))
    return answer - factor * overlap * constraint


def norm_of(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Of all tensors' numbers as one vector, ()."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()


def dot(left: Iterable[torch.Tensor], right: Iterable[torch.Tensor]) -> torch.Tensor:
    """Inner product of two lists of tensors alike, ()."""
    return torch.stack([(x * y).sum() for x, y in zip(left, right, strict=True)]).sum()


def _adam_group(optim: torch.optim.Optimizer) -> dict:
    group = optim.param_groups[0]
    plain = isinstance(optim, torch.optim.Adam) and len(optim.param_groups) == 1
    if not plain or group["weight_decay"] or group["amsgrad"]:
        raise ValueError(
            "the inner optimiser is Adam (one group, no weight decay or AMSGrad) or SGD"
        )
    return group


def _check_plain_sgd(optim: torch.optim.Optimizer) -> None:
    group = optim.param_groups[0]
    if isinstance(optim, torch.optim.SGD) and (group["momentum"] or group["weight_decay"]):
        raise ValueError("an SGD inner optimiser goes without momentum and weight decay")
