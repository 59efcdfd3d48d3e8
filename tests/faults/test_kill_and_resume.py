"""The short version of benchmarks/kill_and_resume.py."""

import pytest

from tests.faults.harness import run_trials


@pytest.mark.slow
def test_runs_killed_at_random_moments_resume_bit_for_bit(tmp_path):
    trials = run_trials(["romi", "rambo"], 4, tmp_path, seed=0)
    assert sum(trial.killed for trial in trials) == 4
    assert [trial for trial in trials if trial.differences] == []
