"""What the sentinel sees, since when, and what it lets pass."""

import math

import pytest
import torch
from torch import nn

from offlinerlkit_romi.policy_trainer import Sentinel, largest_value
from offlinerlkit_romi.policy_trainer.divergence import DATA, explain, in_words
from offlinerlkit_romi.policy_trainer.sentinel import (
    AT_BOUNDS,
    GRADIENT_EVERY,
    OUT_OF_RANGE,
    Q_MARGIN,
    STUCK_EPOCHS,
    Finding,
)
from tests.support.policies import make_buffer
from tests.support.recording import guarded


def only(findings):
    (finding,) = findings
    return finding


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_dated_by_its_first_step(value):
    sentinel = Sentinel({})
    for step in range(1, 9):
        loss = torch.tensor(value if step in (5, 7) else 1.0)
        sentinel.watch({"loss/actor": torch.tensor(2.0), "loss/critic1": loss}, step)
    found = only(sentinel.check(8, {}))
    assert (found.quantity, found.kind, found.since_step) == ("loss/critic1", "not finite", 5)


def test_an_epoch_starts_afresh():
    sentinel = Sentinel({})
    sentinel.watch({"loss/actor": torch.tensor(math.nan)}, 1)
    assert len(sentinel.check(1, {})) == 1
    sentinel.watch({"loss/actor": torch.tensor(1.0)}, 2)
    assert sentinel.check(2, {}) == []


def test_the_largest_value_is_that_of_a_stream_of_the_datas_largest_reward():
    rewards = torch.tensor([[-1.0], [6.0], [3.0]])
    assert largest_value(rewards, 0.99) == pytest.approx(600)
    assert largest_value(rewards, 0.99, extra=1.0) == pytest.approx(700)
    assert largest_value(rewards, 1.0) == pytest.approx(6000)


@pytest.mark.parametrize("sign", [1, -1])
def test_q_may_overshoot_by_its_margin_and_no_further(sign):
    sentinel = Sentinel({}, largest_q=600.0)
    for step, q in enumerate([0.0, 590.0, 1500.0, 2900.0, 300.0], start=1):
        sentinel.watch({"q/real": torch.tensor(sign * q)}, step)
    assert sentinel.check(5, {}) == []
    sentinel.watch({"q/real": torch.tensor(sign * 600.0 * Q_MARGIN * 1.01)}, 6)
    found = only(sentinel.check(6, {}))
    assert (found.quantity, found.kind, found.since_step) == ("q/real", "out of bounds", 6)


def test_losses_may_be_as_large_as_they_like_below_infinity():
    sentinel = Sentinel({}, largest_q=1.0)
    sentinel.watch({"loss/critic1": torch.tensor(1e30)}, 1)
    assert sentinel.check(1, {}) == []


def test_model_states_may_leave_the_datas_box_by_its_width():
    data = torch.tensor([[0.0, -1.0], [1.0, 1.0]])
    sentinel = Sentinel({}, data=data)
    near, far = torch.tensor([[1.9, 2.9]]), torch.tensor([[2.1, 0.0]])
    assert sentinel.outside(near) == {OUT_OF_RANGE: 0.0}
    assert sentinel.outside(far) == {OUT_OF_RANGE: 1.0}
    assert sentinel.outside(torch.cat([near, far])) == {OUT_OF_RANGE: 0.5}
    sentinel.watch(sentinel.outside(torch.cat([near, far])), 1)
    assert sentinel.check(1, {}) == []
    sentinel.watch(sentinel.outside(far), 2)
    assert only(sentinel.check(2, {})).quantity == OUT_OF_RANGE


def test_a_column_that_never_varies_in_the_data_may_vary_a_little_in_the_model():
    sentinel = Sentinel({}, data=torch.tensor([[0.0, 7.0], [1.0, 7.0]]))
    assert sentinel.outside(torch.tensor([[0.5, 7.09]])) == {OUT_OF_RANGE: 0.0}
    assert sentinel.outside(torch.tensor([[0.5, 7.2]])) == {OUT_OF_RANGE: 1.0}


def gradient_steps(sentinel, optim, sizes):
    for size in sizes:
        optim.param_groups[0]["params"][0].grad = torch.full((1, 3), size)
        optim.step()


def test_a_gradient_that_explodes_against_its_own_past_is_seen():
    layer = nn.Linear(3, 1, bias=False)
    optim = torch.optim.SGD(layer.parameters(), lr=0.0)
    sentinel = Sentinel({"actor": layer, "actor_optim": optim})
    for epoch in range(5):
        gradient_steps(sentinel, optim, [1.0 + 10 * epoch] * GRADIENT_EVERY)
        assert sentinel.check(epoch, {}) == []
    gradient_steps(sentinel, optim, [1e6] * GRADIENT_EVERY)
    found = only(sentinel.check(5, {}))
    assert (found.quantity, found.kind) == ("gradient/actor_optim", "out of bounds")
    assert sentinel.gradients["gradient/actor_optim"] == found.value > 1e6
    sentinel.close()
    gradient_steps(sentinel, optim, [1e6] * GRADIENT_EVERY)
    assert sentinel.check(6, {}) == []
    assert sentinel.gradients == {}  # no step was looked at


def test_a_network_with_a_nan_is_seen_without_any_metric():
    layer = nn.Linear(3, 1)
    sentinel = Sentinel({"weighting_net": layer})
    assert sentinel.check(1, {}) == []
    with torch.no_grad():
        layer.bias.fill_(math.nan)
    assert only(sentinel.check(2, {})).quantity == "weights/weighting_net"
    assert sentinel.non_finite_networks() == ["weighting_net"]


def test_weights_stuck_at_a_bound_are_told_once_and_are_no_divergence():
    sentinel = Sentinel({})
    rows = [{AT_BOUNDS: 1.0}] * (STUCK_EPOCHS - 1) + [{AT_BOUNDS: 0.5}]
    assert [f for row in rows for f in sentinel.check(1, row)] == []
    found = only([f for _ in range(2 * STUCK_EPOCHS) for f in sentinel.check(1, {AT_BOUNDS: 1.0})])
    assert found.kind == "stuck" and not found.fatal


def test_a_sentinel_goes_on_where_its_state_was_taken():
    first, second = Sentinel({}, largest_q=1.0), Sentinel({}, largest_q=1.0)
    first.watch({"q/real": torch.tensor(100.0)}, 3)
    second.load_state_dict(first.state_dict())
    assert second.check(4, {}) == first.check(4, {}) != []


def test_nothing_is_read_back_before_the_epochs_end():
    sentinel = Sentinel({}, largest_q=1.0, data=torch.zeros(2, 2))
    one, states, steps = torch.ones(()), torch.ones(4, 2), torch.arange(3).unbind()
    metrics = {"q/real": one, "loss/actor": one}
    sentinel.watch(metrics | sentinel.outside(states), steps[0])
    with guarded():
        for step in steps:
            sentinel.watch(metrics | sentinel.outside(states), step)
    assert sentinel.check(3, {})[0].quantity == OUT_OF_RANGE


def test_a_diagnosis_names_the_cause_before_what_it_spoils():
    findings = [
        Finding("loss/actor", "not finite", 7, math.nan, 1.0),
        Finding("adv_dynamics_update/adv_loss", "not finite", 7, math.nan, 1.0),
        Finding("loss/critic1", "not finite", 9, math.nan, 1.0),
    ]
    diagnosis = explain(findings, ["dynamics"], {}, "no epoch was sound")
    assert diagnosis["quantity"] == "adv_dynamics_update/adv_loss"
    assert "adversarial term" in diagnosis["term"] and "--adv-weight" in diagnosis["try"]
    assert "\n" not in in_words(diagnosis)


def test_a_diagnosis_finds_the_rows_of_data_that_are_not_finite():
    buffer = make_buffer(16)
    buffer.tensors()["rewards"][[5, 9]] = math.nan
    finding = Finding("loss/critic1", "not finite", 2, math.nan, 1.0)
    diagnosis = explain([finding], [], {DATA: buffer}, "no epoch was sound")
    assert diagnosis["transitions_not_finite"] == {DATA: {"rows": 2, "first": 5}}
    assert "data: 2 rows not finite, the first is row 5" in in_words(diagnosis)
    assert diagnosis["culprit"] == DATA
