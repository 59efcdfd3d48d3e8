"""What must hold while ROMI trains, on short runs over random data."""

import math
from typing import get_args, get_type_hints

import pytest
import torch

from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.experiment.algorithms.romi import ROMIConfig
from offlinerlkit_romi.policy import ROMIPolicy
from offlinerlkit_romi.policy.model_based.romi import INNER, SETS, VARIANTS
from tests.support.policies import make_buffer, make_policy

UPDATES = 200


def make_romi(**kwargs) -> ROMIPolicy:
    kwargs.setdefault("adv_train_steps", UPDATES)
    return make_policy(ROMIPolicy, dtype=torch.float32, **kwargs)


def fast_adam(params) -> torch.optim.Adam:
    return make_adam(params, 0.05)


@pytest.mark.parametrize(
    ("variant", "xi"), [("exact", 0.01), ("exact", 10.0), ("release", 10.0), ("no_weighting", 10.0)]
)
def test_state_stays_finite_over_200_updates(variant: str, xi: float) -> None:
    policy, buffer = make_romi(variant=variant, xi=xi), make_buffer(64)
    for _ in range(UPDATES // 4):
        policy.update({"real": buffer.sample(4), "fake": buffer.sample(4)})
    metrics = policy.update_dynamics(buffer)
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    state = [*policy.parameters(), *policy.dynamics.model.parameters()]
    assert all(bool(p.isfinite().all()) for p in state)


def test_weights_stay_within_their_bounds_even_when_driven_hard() -> None:
    policy, buffer = make_romi(weighting_optim=fast_adam, adv_train_steps=60), make_buffer(64)
    start = policy._weights(buffer.tensors()).detach()
    for metrics in (policy.update_dynamics(buffer) for _ in range(2)):
        assert 0.5 <= metrics["romi/weight_min"] <= metrics["romi/weight_mean"]
        assert metrics["romi/weight_mean"] <= metrics["romi/weight_max"] <= 2.0
    weights = policy._weights(buffer.tensors()).detach()
    assert weights.min() >= 0.5 and weights.max() <= 2.0
    assert (weights - start).abs().max() > 0.1  # they were driven


@pytest.mark.parametrize("uncertainty_set", ["relative", "ball"])
def test_robust_target_never_exceeds_the_value_of_the_next_state(uncertainty_set: str) -> None:
    policy, buffer = make_romi(uncertainty_set=uncertainty_set, xi=1.0), make_buffer(64)
    for _ in range(5):
        policy.update({"real": buffer.sample(4), "fake": buffer.sample(4)})
        next_obs = buffer.tensors()["next_observations"]
        with torch.no_grad():
            target = policy._target(next_obs)
            # a batched product may round one row differently in batches of other sizes
            assert (target <= policy.value(next_obs) + 1e-6).all()


def test_a_larger_set_is_more_pessimistic() -> None:
    policy, buffer = make_romi(num_perturbations=50), make_buffer(64)
    next_obs = buffer.tensors()["next_observations"]
    means = []
    for policy._xi in (0.01, 0.1, 1.0, 10.0):
        policy.generator.manual_seed(0)
        means.append(policy._target(next_obs).mean().item())
    assert means == sorted(means, reverse=True) and means[0] > means[-1]


def test_metrics_are_the_documented_ones() -> None:
    metrics = make_romi(adv_train_steps=2).update_dynamics(make_buffer(64))
    assert {name.removeprefix("romi/") for name in metrics} == {
        "inner_loss",
        "outer_loss",
        "outer_loss_before",
        "inner_grad_norm",
        "outer_grad_norm",
        "hypergrad_norm",
        "alignment_mean",
        "weight_mean",
        "weight_min",
        "weight_max",
        "weight_at_bounds",
    }


def test_weight_shares_count_the_weights_in_each_tenth_of_their_range() -> None:
    policy, rows = make_romi(weighting_optim=fast_adam, adv_train_steps=60), make_buffer(64)
    policy.update_dynamics(rows)
    shares = torch.stack(list(policy.weight_shares(rows.tensors()).values()))
    weights = policy._weights(rows.tensors()).detach()
    counts = torch.histc(weights, bins=10, min=0.5, max=2.0)
    assert torch.equal(shares * 64, counts) and counts.max() < 64
    assert make_romi(variant="no_weighting").weight_shares(rows.tensors()) == {}


def test_model_updates_use_the_configured_number_of_batches() -> None:
    policy, buffer = make_romi(adv_train_steps=3), make_buffer(64)
    sizes, sample = [], buffer.sample
    buffer.sample = lambda size: sizes.append(size) or sample(size)  # type: ignore[method-assign]
    policy.update_dynamics(buffer)
    assert sizes == [8, 8, 8]


@pytest.mark.parametrize(
    "options", [{"variant": "exakt"}, {"uncertainty_set": "cube"}, {"preconditioner": "sgd"}]
)
def test_unknown_choices_are_refused_by_name(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make_romi(**options)


def test_the_command_line_offers_what_there_is() -> None:
    offered = get_type_hints(ROMIConfig)
    choices = {name: get_args(offered[name]) for name in ("variant", "uncertainty_set")}
    assert choices == {"variant": tuple(VARIANTS), "uncertainty_set": tuple(SETS)}
    assert get_args(offered["inner_optimizer"]) == tuple(INNER)
    assert set(get_args(offered["preconditioner"])) == {exact for _, exact in INNER.values()}


def test_release_refuses_rows_that_its_groups_cannot_share() -> None:
    with pytest.raises(ValueError, match="4 groups"):
        make_romi(variant="release", adv_rollout_batch_size=10)
    make_romi(adv_rollout_batch_size=10)


def reward_error(policy: ROMIPolicy, data: dict[str, torch.Tensor]) -> float:
    """Root mean squared error of the members' mean reward."""
    mean, _ = policy.dynamics.model(policy.dynamics.inputs(data["observations"], data["actions"]))
    return (mean[..., -1:].mean(0) - data["rewards"]).square().mean().sqrt().item()


@pytest.mark.parametrize("kept", [True, False], ids=["own likelihood", "value loss alone"])
def test_an_unweighted_models_reward_error_falls_with_its_likelihood_and_grows_without(
    kept: bool,
) -> None:
    policy = make_romi(variant="no_weighting", adv_train_steps=100, reward_likelihood=kept)
    buffer = make_buffer(64)
    data = buffer.tensors()
    data["rewards"].copy_(data["observations"][:, :1] + data["actions"][:, :1])
    policy.dynamics.optim.param_groups[0]["lr"] = 0.01
    policy.dynamics.train(data, max_epochs=20, batch_size=16)
    fitted = reward_error(policy, data)
    policy.update_dynamics(buffer)
    assert (reward_error(policy, data) < fitted) == kept
