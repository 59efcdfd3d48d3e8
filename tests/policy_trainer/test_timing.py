import pytest

from offlinerlkit_romi.policy_trainer.timing import PhaseTimer


class Scripted(PhaseTimer):
    """Its clock stands still unless told to go on."""

    seconds = 0.0

    def pass_(self, seconds):
        self.seconds += seconds

    def _now(self):
        return self.seconds


def test_an_inner_phase_is_not_counted_twice():
    timer = Scripted()
    with timer.phase("policy_step", units=10):
        timer.pass_(0.25)
        with timer.phase("rollout"):
            timer.pass_(0.5)
    assert timer.totals() == {"policy_step": 25.0, "rollout": 500.0}


def test_time_is_per_unit_and_a_lap_starts_afresh():
    timer = Scripted()
    with timer.phase("model_update", units=5):
        timer.pass_(0.5)
    assert timer.lap() == {"model_update": 100.0}
    assert timer.lap() == {}
    assert timer.totals() == {"model_update": 100.0}


def test_a_phase_that_fails_is_still_counted():
    timer = Scripted()
    with pytest.raises(ValueError), timer.phase("evaluation"):
        timer.pass_(0.125)
        raise ValueError
    assert timer.totals() == {"evaluation": 125.0}
