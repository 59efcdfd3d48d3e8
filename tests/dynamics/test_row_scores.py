"""Inner products of single rows' gradients against one gradient per row."""

import torch

from offlinerlkit_romi.dynamics.losses import gaussian_kl, gaussian_log_prob
from offlinerlkit_romi.dynamics.row_scores import RowScores, member_log_prob
from tests.reference import ensemble
from tests.support.policies import FLOAT64, generator, make_dynamics

ROWS = 11


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, members (one of them has no row, others several), samples."""
    inputs = torch.randn(ROWS, 5, dtype=FLOAT64, generator=generator(1))
    member = torch.tensor([0, 2, 0, 0, 2, 2, 0, 2, 0, 0, 2])
    return inputs, member, torch.randn(ROWS, 4, dtype=FLOAT64, generator=generator(2))


def make_model(members: int = 3) -> torch.nn.Module:
    model = make_dynamics(hidden_dims=(8, 8), members=members).model
    with torch.no_grad():  # where both bounds of the log-variance are felt
        model.max_logvar.copy_(torch.tensor([0.5, -0.2, 0.1, 0.0]))
        model.min_logvar.copy_(torch.tensor([-1.0, -0.8, -2.0, -0.5]))
    return model


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """Of every row's log-density, in every parameter, (R, n_phi)."""
    found = []
    for inputs, member, sample in zip(*rows(), strict=True):
        predicted = ensemble.member_forward(model, int(member), inputs)
        log_density = ensemble.gaussian_log_density(*predicted, sample)
        grads = torch.autograd.grad(log_density, list(model.parameters()))
        found.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(found)


def test_gram_matrix_and_products_with_a_direction_equal_one_gradient_per_row() -> None:
    model, inputs = make_model(), rows()
    scores, each = RowScores.of(model, *inputs), gradients(model)
    torch.testing.assert_close(scores.gram(), each @ each.mT, rtol=1e-10, atol=1e-10)
    assert all(bound.abs().max() > 1e-3 for bound in scores.bounds)
    direction = [
        torch.randn(p.shape, dtype=FLOAT64, generator=generator(3)) for p in model.parameters()
    ]
    flat = torch.cat([x.flatten() for x in direction])
    torch.testing.assert_close(scores.along(direction), each @ flat, rtol=1e-10, atol=1e-10)


def test_densities_are_those_of_each_rows_member() -> None:
    model, (inputs, member, sample) = make_model(), rows()
    mean, logvar = model(inputs)
    expected = gaussian_log_prob(mean, logvar, sample)[member, torch.arange(ROWS)]
    torch.testing.assert_close(member_log_prob(model, inputs, member, sample), expected)


def test_the_divergence_of_gaussians_is_the_mean_of_the_log_ratio() -> None:
    mean, logvar, new_mean, new_logvar = torch.randn(4, 6, dtype=FLOAT64, generator=generator(4))
    noise = torch.randn(400_000, 6, dtype=FLOAT64, generator=generator(5))
    x = mean + (0.5 * logvar).exp() * noise
    old, new = (
        -0.5 * ((x - m).square() / v.exp() + v) for m, v in ((mean, logvar), (new_mean, new_logvar))
    )
    found = gaussian_kl(mean, logvar, new_mean, new_logvar)
    torch.testing.assert_close(found, (old - new).mean(0), rtol=0.02, atol=0.02)
    assert torch.equal(gaussian_kl(mean, logvar, mean, logvar), torch.zeros(6, dtype=FLOAT64))
