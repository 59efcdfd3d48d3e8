"""Every update could be captured: it waits for nothing, brings nothing and rebinds nothing."""

from typing import Any

import pytest
import torch

from offlinerlkit_romi.engine import MetricMeans
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.model_config import AdversarialConfig
from offlinerlkit_romi.policy_trainer import Sentinel
from tests.support.building import Run, build, policy_updates
from tests.support.recording import HostSync, guarded, pointers

ROMI_VARIANTS: list[dict[str, Any]] = [
    {},
    {"variant": "release"},
    {"variant": "no_weighting"},
    {"uncertainty_set": "ball"},
    {"preconditioner": "identity"},
    {"inner_optimizer": "sgd"},
]
MODEL_UPDATES = [("romi", options) for options in ROMI_VARIANTS] + [
    ("rambo", {}),
    ("rambo", {"adv_reduction": "sum", "include_ent_in_adv": True}),
]
SWITCHES: list[tuple[str, dict[str, Any]]] = [
    ("cql", {"with_lagrange": True, "max_q_backup": True}),
    ("edac", {"max_q_backup": True}),
    ("rorl", {"beta_ood": 0.5, "lambda_ood": 1.0, "noise": "per_row", "release": False}),
    ("mobile", {"max_q_backup": True, "real_ratio": 0.0}),
    ("mopo", {"auto_alpha": False, "real_ratio": 1.0}),
    ("td3bc", {"normalize_obs": True}),
]


pytestmark = pytest.mark.usefixtures("twins_together")


@pytest.mark.parametrize(
    "algo, options", [*((algo, {}) for algo in ALGORITHMS), *SWITCHES], ids=str
)
def test_a_policy_update_waits_for_nothing_and_rebinds_nothing(algo, options) -> None:
    run = build(algo, **options)
    update = policy_updates(run)
    for _ in range(2):  # lazy state, and both kinds of TD3's updates
        update()
    assert_captureable(run, update, calls=2)


@pytest.mark.parametrize("algo, options", MODEL_UPDATES, ids=str)
def test_a_model_update_waits_for_nothing_and_rebinds_nothing(algo, options) -> None:
    run = build(algo, **options)
    assert isinstance(run.config, AdversarialConfig)
    updates = run.policy.model_updates(run.buffers.for_model.rows)
    next(updates)
    assert_captureable(run, lambda: next(updates), calls=4)  # RAMBO: over a rollout's end


@pytest.mark.parametrize("anchor", ["kl", "nll"])
def test_a_followers_step_waits_for_nothing_and_rebinds_nothing(anchor) -> None:
    run = build("rombrl", anchor=anchor)
    rows = run.buffers.for_model.rows
    run.policy.update_dynamics(rows)
    run.policy._cursor.zero_()
    assert_captureable(run, lambda: run.policy._follower_step(rows), calls=2)


@pytest.mark.parametrize("algo", ["romi", "count_morl"])
def test_a_pretraining_step_waits_for_nothing_and_rebinds_nothing(algo) -> None:
    run = build(algo)
    dynamics, data = run.policy.dynamics, run.buffers.real.tensors()
    inputs, targets = dynamics.format_samples_for_training(data)
    fit = dynamics._make_fit((inputs, targets), (inputs[:9], targets[:9]), 16, 0.01)
    rows = fit.rows[:, :16]
    fit.step(rows)
    assert_captureable(run, lambda: fit.step(rows), calls=2)


def test_metrics_are_summed_and_watched_without_waiting() -> None:
    means, sentinel = MetricMeans(), Sentinel({}, 1.0, torch.ones(4, 2))
    metrics, step = {"a": torch.tensor(1.0), "q/real": torch.tensor(2.0)}, torch.tensor(3)

    def note() -> None:
        means.add(metrics)
        sentinel.watch(metrics | sentinel.outside(torch.ones(3, 2)), step)

    note()
    with guarded():
        note()
    assert means.result() == {"a": 1.0, "q/real": 2.0}
    assert sentinel.check(3, {}) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: torch.tensor([1.0]) + x,
        lambda x: x.to("meta"),
        lambda x: x.masked_fill_(x > 0, 0.0)[x > 1],
    ],
)
def test_the_guard_refuses_what_a_capture_refuses(act) -> None:
    with pytest.raises(HostSync), guarded():
        act(torch.arange(4.0))


def test_the_guard_lets_a_fixed_shape_through() -> None:
    x = torch.arange(4.0)
    with guarded() as guard:
        torch.where(x > 0, x, 1.0)[torch.arange(2)].sum()
    assert len(guard.ops) > 3


def assert_captureable(run: Run, act: Any, calls: int) -> None:
    """What `act` does passes the guard, and leaves every tensor of the state at its address."""
    state = run.policy.training_state()
    before = pointers(state)
    assert len(before) > 4
    for _ in range(calls):
        with guarded() as guard:
            act()
        assert len(guard.ops) > 10
    assert pointers(state) == before
