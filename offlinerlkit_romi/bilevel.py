r"""The implicit gradient of the weighting network, as pure functions of tensors.

The inner step moves the model's parameters by an optimiser step on a weighted loss,

    psi'(nu) = psi - beta_1 * step(g),    g = (1/B) sum_i w_i(nu) grad nll_i(psi) + ...

and the outer loss is L(psi'). With P the elementwise derivative of `step` with respect to g and u =
grad L(psi'),

    grad_nu L(psi'(nu)) = -(beta_1/B) sum_i c_i grad_nu w_i,    c_i = < P u, grad nll_i(psi) >.

Source: the chain rule; ROMI paper Eq. 10 with the sign that a *negative* log-likelihood needs.
Nothing here knows a policy or a dynamics model. Shapes: B rows, any parameter shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Tensors = Sequence[torch.Tensor]


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
