"""Where one weighting step takes the robust loss: down with `exact`, up with `release`."""

from __future__ import annotations

import copy

import torch

from offlinerlkit_romi.policy import ROMIPolicy
from tests.support.policies import make_batch, make_dynamics, make_policy

NOISE_SEED, PROBLEMS = 7, 20
STEP_LENGTH = 0.3


def _change_of_robust_loss(variant: str, problem: int) -> float:
    """Change of L(psi'(nu)) by a weighting step of fixed length, same batch and noise."""
    dynamics = make_dynamics(seed=problem)
    policy = make_policy(
        ROMIPolicy,
        dynamics=dynamics,
        dynamics_adv_optim=torch.optim.SGD(list(dynamics.model.parameters()), 1e-2),
        weighting_optim=lambda params: torch.optim.SGD(params, lr=1.0),
        variant=variant,
        xi=0.3,
        num_perturbations=4,
        weight_hidden_dims=(16,),
        seed=problem,
    )
    batch = make_batch(rows=32, seed=problem, terminals=0.0)
    model = copy.deepcopy(dynamics.model.state_dict())
    update = policy._exact_update if variant == "exact" else policy._release_update

    def nu() -> torch.Tensor:
        return torch.nn.utils.parameters_to_vector(policy.weighting_net.parameters()).detach()

    def robust_loss(weights: torch.Tensor) -> float:
        dynamics.model.load_state_dict(model)
        policy._baseline.fill_(float("nan"))
        torch.nn.utils.vector_to_parameters(weights.clone(), policy.weighting_net.parameters())
        policy.generator.manual_seed(NOISE_SEED)
        dynamics.generator.manual_seed(NOISE_SEED)
        return update(batch)["outer_loss"].item()

    start = nu()
    before = robust_loss(start)
    step = nu() - start
    return robust_loss(start + STEP_LENGTH * step / step.norm()) - before


def test_exact_lowers_the_robust_loss_on_every_problem() -> None:
    changes = [_change_of_robust_loss("exact", problem) for problem in range(PROBLEMS)]
    assert all(change < 0 for change in changes), changes


def test_release_raises_the_robust_loss_on_most_problems() -> None:
    """The published code's sign; its row groups make it miss now and then."""
    changes = [_change_of_robust_loss("release", problem) for problem in range(PROBLEMS)]
    assert sum(change > 0 for change in changes) >= 0.8 * PROBLEMS, changes
