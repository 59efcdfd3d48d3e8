"""The pure functions of the implicit gradient against automatic and numerical differentiation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from offlinerlkit_romi.bilevel import (
    adam_preconditioner,
    alignment_jvp,
    hypergradient_surrogate,
    linear_alignment,
    precondition,
)
from offlinerlkit_romi.dynamics.losses import gaussian_nll
from offlinerlkit_romi.dynamics.weighted_dynamics import clamp_bounds_tangent
from offlinerlkit_romi.modules import soft_clamp
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics


def _adam_step(grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    m = betas[0] * exp_avg + (1 - betas[0]) * grad
    v = betas[1] * exp_avg_sq + (1 - betas[1]) * grad.square()
    return m / (1 - betas[0] ** step) / ((v / (1 - betas[1] ** step)).sqrt() + eps), m, v


@pytest.mark.parametrize("step", [1, 2, 50])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_adam_preconditioner_is_the_derivative_of_the_step(step: int, eps: float) -> None:
    g = generator()
    grad = torch.randn(20, generator=g, dtype=FLOAT64).requires_grad_()
    started = float(step > 1)
    exp_avg = started * torch.randn(20, generator=g, dtype=FLOAT64)
    exp_avg_sq = started * torch.rand(20, generator=g, dtype=FLOAT64)
    direction, m, v = _adam_step(grad, exp_avg, exp_avg_sq, step, eps=eps)
    (expected,) = torch.autograd.grad(direction.sum(), [grad])
    found = adam_preconditioner(grad.detach(), m.detach(), v.detach(), step, (0.9, 0.999), eps)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_adam_preconditioner_is_finite_where_the_gradient_has_always_been_zero() -> None:
    zero = torch.zeros(3)
    slope = adam_preconditioner(zero, zero, zero, 1, (0.9, 0.999), 1e-8)
    assert torch.isfinite(slope).all()


def test_adam_preconditioner_does_not_overflow_for_subnormal_gradients() -> None:
    grad = torch.tensor([1e-30, -1e-25, 1e-20])
    m, v = 0.1 * grad, 0.001 * grad.square()
    slope = adam_preconditioner(grad, m, v, 1, (0.9, 0.999), 1e-8)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("fused", [False, True])
def test_precondition_reads_the_moments_that_torch_adam_used(fused: bool) -> None:
    param = torch.randn(5, dtype=FLOAT64, generator=generator()).requires_grad_()
    optim = torch.optim.Adam([param], lr=0.1, fused=fused)
    m = v = torch.zeros(5, dtype=FLOAT64)
    for step in range(1, 4):
        grad = torch.randn(5, dtype=FLOAT64, generator=generator(step))
        before = param.detach().clone()
        param.grad = grad.clone()
        optim.step()
        change, m, v = _adam_step(grad, m, v, step)
        torch.testing.assert_close(before - 0.1 * change, param.detach())
        (product,) = precondition(optim, [param], [grad], [torch.ones(5, dtype=FLOAT64)])
        expected = adam_preconditioner(grad, m, v, step, (0.9, 0.999), 1e-8)
        torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-9)


def test_precondition_refuses_an_optimiser_whose_step_it_does_not_know() -> None:
    param = torch.zeros(1, requires_grad=True)
    args = ([param], [param], [param])
    for optim in (
        torch.optim.SGD([param], lr=0.1, momentum=0.9),
        torch.optim.Adam([param], lr=0.1, weight_decay=0.1),
        torch.optim.Adam([param], lr=0.1, amsgrad=True),
        torch.optim.RMSprop([param], lr=0.1),
    ):
        with pytest.raises(ValueError, match="inner optimiser"):
            precondition(optim, *args)


@pytest.mark.parametrize("shared_input", [True, False])
def test_linear_alignment_equals_one_gradient_per_row(shared_input: bool) -> None:
    g = generator()
    members, rows, fan_in, fan_out = 3, 5, 4, 2

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=FLOAT64)

    inputs = draw(rows, fan_in) if shared_input else draw(members, rows, fan_in)
    delta = draw(members, rows, fan_out)
    weight, bias = draw(members, fan_in, fan_out), draw(members, 1, fan_out)
    found = linear_alignment(inputs, delta, weight, bias)
    for row in range(rows):
        expected = 0.0
        for member in range(members):
            h = inputs[row] if shared_input else inputs[member, row]
            expected += float((torch.outer(h, delta[member, row]) * weight[member]).sum())
            expected += float(delta[member, row] @ bias[member, 0])
        assert found[row].item() == pytest.approx(expected, rel=1e-12)


def test_bounds_tangent_is_the_derivative_of_the_soft_clamp() -> None:
    g = generator()
    raw = 6 * torch.randn(3, 4, 2, generator=g, dtype=FLOAT64)
    low, high = torch.tensor([-5.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    directions = torch.randn(2, 2, generator=g, dtype=FLOAT64)
    _, expected = torch.func.jvp(
        lambda a, b: soft_clamp(raw, a, b), (low, high), (directions[0], directions[1])
    )
    found = clamp_bounds_tangent(raw, (low, high), (directions[0], directions[1]))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("logvar_loss_coef", [None, 0.001])
def test_reused_backward_gives_the_forward_mode_alignment(logvar_loss_coef: float | None) -> None:
    dynamics = make_dynamics()
    batch = make_batch(rows=9)
    weights = 0.5 + 1.5 * torch.rand(9, 1, generator=generator(3), dtype=FLOAT64)
    record = dynamics.weighted_pass(batch, weights, logvar_loss_coef)
    params = dynamics.parameters
    direction = [torch.randn(p.shape, generator=generator(4), dtype=FLOAT64) for p in params]
    found = dynamics.alignment(record, direction)
    inputs, target = dynamics.format_samples_for_training(batch)
    inputs = dynamics.scaler.transform_tensor(inputs)
    names = [name for name, p in dynamics.model.named_parameters() if p.requires_grad]

    def row_losses(values: Sequence[torch.Tensor]) -> torch.Tensor:
        state = dict(zip(names, values, strict=True))
        mean, logvar = torch.func.functional_call(dynamics.model, state, (inputs,))
        return gaussian_nll(mean, logvar, target).sum(0)

    expected = alignment_jvp(row_losses, params, direction)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_surrogate_gradient_is_minus_rate_times_mean_of_alignment_and_weight_gradient() -> None:
    weights = torch.tensor([[1.0], [2.0]], dtype=FLOAT64, requires_grad=True)
    alignment = torch.tensor([3.0, -4.0], dtype=FLOAT64)
    (grad,) = torch.autograd.grad(hypergradient_surrogate(weights, alignment, 0.1), [weights])
    torch.testing.assert_close(grad.squeeze(-1), -0.1 * alignment / 2)
