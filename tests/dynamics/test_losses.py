"""The ensemble's losses and penalties equal their member-by-row float64 restatements."""

import math

import numpy as np
import pytest
import torch

from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.losses import (
    gaussian_log_prob,
    gaussian_nll,
    mixture_log_prob,
    supervised_loss,
)
from offlinerlkit_romi.modules import soft_clamp
from tests.reference import ensemble
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics


def outputs(seed: int, members: int = 3, rows: int = 6, dims: int = 4) -> list[torch.Tensor]:
    g = generator(seed)
    shapes = [(members, rows, dims), (members, rows, dims), (rows, dims)]
    return [torch.randn(shape, generator=g, dtype=FLOAT64) for shape in shapes]


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("coefficient", [0.0, 0.001, 0.5])
def test_supervised_loss_equals_the_member_by_row_loop(rows: int, coefficient: float) -> None:
    dynamics, batch = make_dynamics(), make_batch(rows)
    inputs, target = dynamics.format_samples_for_training(batch)
    fast = supervised_loss(
        dynamics.model, dynamics.scaler.transform_tensor(inputs), target, coefficient
    )
    slow = ensemble.weighted_loss(dynamics, batch, [1.0] * rows, coefficient)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)


def test_nll_is_twice_the_negative_log_density_up_to_a_constant() -> None:
    mean, logvar, target = outputs(0)
    nll = gaussian_nll(mean, logvar, target) * target.shape[-1]  # sum over D instead of the mean
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
    expected = -2 * normal.log_prob(target).sum(-1) - target.shape[-1] * math.log(2 * math.pi)
    torch.testing.assert_close(nll, expected, rtol=1e-12, atol=1e-12)


def test_soft_clamp_equals_its_formula_and_keeps_the_bounds() -> None:
    x = torch.tensor([-1e4, -50.0, -10.0, -3.0, 0.0, 0.5, 9.0, 1e4], dtype=FLOAT64)
    lower, upper = torch.tensor(-10.0, dtype=FLOAT64), torch.tensor(0.5, dtype=FLOAT64)
    fast = soft_clamp(x, lower, upper)
    torch.testing.assert_close(fast, ensemble.soft_clamp(x, lower, upper), rtol=1e-10, atol=0)
    # the lower bound is applied last and may lift the upper one by softplus(upper - lower)'s tail
    assert (fast >= lower).all() and (fast <= upper + math.exp(-10)).all()


def test_soft_clamp_keeps_a_gradient_inside_and_at_the_bounds() -> None:
    x = torch.tensor([-10.0, 0.0, 0.5], dtype=FLOAT64, requires_grad=True)
    bounds = torch.tensor(-10.0, dtype=FLOAT64), torch.tensor(0.5, dtype=FLOAT64)
    (grad,) = torch.autograd.grad(soft_clamp(x, *bounds).sum(), x)
    assert (grad > 0.3).all()


@pytest.mark.parametrize("mode", ["aleatoric", "pairwise-diff", "ensemble_std"])
def test_penalty_equals_the_loop_over_rows_and_members(mode: str) -> None:
    dynamics: EnsembleDynamics = make_dynamics(uncertainty_mode=mode, penalty_coef=1.0)
    mean, logvar, _ = outputs(1, members=5)
    fast = dynamics.penalty(mean, logvar)
    slow = ensemble.penalty(mode, mean.numpy(), logvar.numpy())
    assert fast.shape == (6, 1)
    np.testing.assert_allclose(fast[:, 0].numpy(), slow, rtol=1e-12)


def test_penalties_that_look_at_means_leave_the_reward_out() -> None:
    mean, logvar, _ = outputs(2)
    other = mean.clone()
    other[..., -1] += torch.randn(other[..., -1].shape, dtype=FLOAT64, generator=generator(3))
    for mode in ("pairwise-diff", "ensemble_std"):
        dynamics = make_dynamics(uncertainty_mode=mode)
        assert torch.equal(dynamics.penalty(mean, logvar), dynamics.penalty(other, logvar))


def test_log_density_equals_torch_distributions() -> None:
    mean, logvar, sample = outputs(4)
    expected = torch.distributions.Normal(mean, torch.exp(0.5 * logvar)).log_prob(sample).sum(-1)
    torch.testing.assert_close(
        gaussian_log_prob(mean, logvar, sample), expected, rtol=1e-12, atol=0
    )


def test_mixture_equals_the_log_of_the_mean_density() -> None:
    log_probs = torch.randn(5, 7, dtype=FLOAT64, generator=generator(5))
    fast = mixture_log_prob(log_probs)
    slow = [ensemble.mixture_log_density(list(log_probs[:, i])) for i in range(7)]
    torch.testing.assert_close(fast[:, 0], torch.stack(slow), rtol=1e-12, atol=0)
    torch.testing.assert_close(fast[:, 0], log_probs.exp().mean(0).log(), rtol=1e-10, atol=1e-12)


def test_mixture_and_its_gradient_stay_finite_where_densities_underflow() -> None:
    log_probs = torch.tensor([[-5000.0], [-4000.0]], dtype=FLOAT64, requires_grad=True)
    assert log_probs.exp().sum() == 0  # the naive mean has nothing left
    result = mixture_log_prob(log_probs)
    assert result.item() == pytest.approx(-4000 - math.log(2), rel=1e-12)
    (grad,) = torch.autograd.grad(result.sum(), log_probs)
    torch.testing.assert_close(grad, torch.tensor([[0.0], [1.0]], dtype=FLOAT64))
