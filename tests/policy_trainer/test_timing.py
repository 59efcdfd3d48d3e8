import time

import pytest

from offlinerlkit_romi.policy_trainer.timing import PhaseTimer


def test_an_inner_phase_is_not_counted_twice():
    timer = PhaseTimer()
    with timer.phase("policy_step", units=10), timer.phase("rollout"):
        time.sleep(0.05)
    totals = timer.totals()
    assert totals["rollout"] >= 50
    assert totals["policy_step"] < 1


def test_time_is_per_unit_and_a_lap_starts_afresh():
    timer = PhaseTimer()
    with timer.phase("model_update", units=5):
        time.sleep(0.05)
    assert 10 <= timer.lap()["model_update"] < 40
    assert timer.lap() == {}
    assert timer.totals()["model_update"] >= 10


def test_a_phase_that_fails_is_still_counted():
    timer = PhaseTimer()
    with pytest.raises(ValueError), timer.phase("evaluation"):
        raise ValueError
    assert "evaluation" in timer.totals()
