"""The gradient ROMI gives its weighting net against finite differences of the outer loss."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from offlinerlkit_romi.policy import ROMIPolicy
from tests.support.policies import make_batch, make_dynamics, make_policy

NOISE_SEED = 11


def _sgd(params: Any) -> torch.optim.Optimizer:
    # rate 1 and no momentum: the change of nu is minus the gradient it was given
    return torch.optim.SGD(params, lr=1.0)


def _policy(inner: str, lr: float, **kwargs: Any) -> ROMIPolicy:
    dynamics = make_dynamics()
    params = list(dynamics.model.parameters())
    # Adam's first step is nearly the gradient's sign; a visible eps keeps it smooth enough to
    # difference
    optim: torch.optim.Optimizer = torch.optim.Adam(params, lr, eps=1e-3)
    if inner == "sgd":
        optim = torch.optim.SGD(params, lr)
    kwargs.setdefault("xi", 0.3)
    kwargs.setdefault("num_perturbations", 4)
    return make_policy(
        ROMIPolicy, dynamics=dynamics, dynamics_adv_optim=optim, weighting_optim=_sgd, **kwargs
    )


class Frozen:
    """Puts a policy back to one state before every evaluation of its update, noise included."""

    def __init__(self, policy: ROMIPolicy, batch: dict[str, torch.Tensor]) -> None:
        self.policy, self.batch = policy, batch
        self.model = copy.deepcopy(policy.dynamics.model.state_dict())
        self.optim = copy.deepcopy(policy._dynamics_adv_optim.state_dict())
        self.nu = self.weights().clone()

    def weights(self) -> torch.Tensor:
        return torch.nn.utils.parameters_to_vector(self.policy.weighting_net.parameters()).detach()

    def update(self, nu: torch.Tensor) -> dict[str, torch.Tensor]:
        self.policy.dynamics.model.load_state_dict(self.model)
        self.policy._dynamics_adv_optim.load_state_dict(copy.deepcopy(self.optim))
        torch.nn.utils.vector_to_parameters(nu.clone(), self.policy.weighting_net.parameters())
        self.policy.generator.manual_seed(NOISE_SEED)
        self.policy.dynamics.generator.manual_seed(NOISE_SEED)
        return self.policy._exact_update(self.batch)

    def hypergradient(self) -> torch.Tensor:
        self.update(self.nu)
        return self.nu - self.weights()

    def outer_loss(self, nu: torch.Tensor) -> float:
        """L_RVL(psi'(nu)), the loss after the inner step under fixed noise."""
        return self.update(nu)["outer_loss"].item()

    def finite_difference(self, direction: torch.Tensor, h: float) -> float:
        """Central difference of fourth order along `direction`."""
        near, far = (
            self.outer_loss(self.nu + k * h * direction)
            - self.outer_loss(self.nu - k * h * direction)
            for k in (1, 2)
        )
        return (8 * near - far) / (12 * h)


def relative_error(frozen: Frozen, directions: int = 3) -> float:
    """Largest error over the gradient's own and random directions, each with its best step size."""
    gradient = frozen.hypergradient()
    noise = [torch.randn(len(gradient), dtype=gradient.dtype) for _ in range(directions)]
    worst = 0.0
    for direction in [gradient / gradient.norm(), *(x / x.norm() for x in noise)]:
        exact = float(gradient @ direction)
        steps = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
        errors = [abs(frozen.finite_difference(direction, h) - exact) for h in steps]
        worst = max(worst, min(errors) / float(gradient.norm()))
    return worst


@pytest.mark.parametrize("updates_before", [0, 3])
@pytest.mark.parametrize("inner", ["sgd", "adam"])
@pytest.mark.parametrize("weight_input", ["sas", "sa"])
def test_hypergradient_equals_central_differences(
    inner: str, updates_before: int, weight_input: str
) -> None:
    torch.manual_seed(0)
    policy = _policy(inner, lr=1e-2, weight_input=weight_input)
    for seed in range(updates_before):
        policy._exact_update(make_batch(rows=6, seed=100 + seed))
    frozen = Frozen(policy, make_batch(rows=6))
    assert float(frozen.hypergradient().norm()) > 0
    assert relative_error(frozen) < 1e-5


@pytest.mark.parametrize("uncertainty_set", ["relative", "ball"])
def test_hypergradient_holds_for_both_uncertainty_sets(uncertainty_set: str) -> None:
    torch.manual_seed(0)
    policy = _policy("sgd", lr=1e-2, uncertainty_set=uncertainty_set)
    assert relative_error(Frozen(policy, make_batch(rows=6, seed=5))) < 1e-5


def test_identity_preconditioner_is_wrong_for_an_adam_step() -> None:
    """The check above can tell the two apart."""
    torch.manual_seed(0)
    policy = _policy("adam", lr=1e-2, preconditioner="identity")
    policy._exact_update(make_batch(rows=6, seed=100))
    assert relative_error(Frozen(policy, make_batch(rows=6)), directions=0) > 0.1
