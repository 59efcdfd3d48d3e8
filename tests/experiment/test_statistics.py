"""Numbers over runs: what they are, and that their intervals are those of the field's library."""

import math

import numpy as np
import pytest

from offlinerlkit_romi.experiment.statistics import (
    interquartile_mean,
    mean_and_std,
    performance_profile,
    probability_of_improvement,
)

# a task per row, a run per column; what rliable 1.2.0 (beside pandas 2) said of them
OURS = [[52, 47, 55, 49, 61], [31, 35, 28, 40, 33], [80, 91, 60, 85, 88]]
THEIRS = [[50, 58, 60, 53, 57], [38, 36, 41, 30, 44], [90, 95, 70, 99, 92]]


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    values = [100.0, 1.0, 2.0, 3.0, 4.0, -50.0, 5.0, 6.0]
    estimate = interquartile_mean([values])
    assert estimate.value == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0]))
    assert -50 < estimate.low < estimate.value < estimate.high < 100
    assert interquartile_mean([values]) == estimate  # the resampling has a seed


def test_the_bootstrap_interval_equals_one_resampled_by_hand():
    values = np.array([3.0, 7.0, 8.0, 12.0, 20.0, 21.0])
    draws = np.random.default_rng(1).integers(0, 6, (20_000, 6))
    samples = np.sort(values[draws], axis=1)[:, 1:5].mean(1)  # a quarter of six is one
    low, high = np.percentile(samples, [2.5, 97.5])
    estimate = interquartile_mean([values.tolist()])
    assert estimate.low == pytest.approx(low, abs=0.6)
    assert estimate.high == pytest.approx(high, abs=0.6)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 2.0, math.nan]])
def test_fewer_than_three_known_scores_have_no_interval(values):
    assert all(map(math.isnan, interquartile_mean([values])))


def test_equal_scores_have_an_interval_of_no_width_and_one_run_no_spread():
    assert interquartile_mean([[4.0, 4.0, 4.0]]) == (4.0, 4.0, 4.0)
    assert mean_and_std([4.0])[0] == 4.0 and math.isnan(mean_and_std([4.0])[1])


def close(found, value, low, high):
    assert found.value == pytest.approx(value)
    assert found.low == pytest.approx(low, abs=1.0 if value > 1 else 0.05)
    assert found.high == pytest.approx(high, abs=1.0 if value > 1 else 0.05)


def test_intervals_over_several_tasks_are_rliables():
    close(interquartile_mean(OURS), 53.22222222, 49.11111111, 58.0)
    close(interquartile_mean(THEIRS), 58.11111111, 54.33333333, 61.88888889)
    close(probability_of_improvement(THEIRS, OURS), 0.74666667, 0.54666667, 0.92)
    bounds = [
        (0.93333333, 0.8, 1.0),
        (0.53333333, 0.4, 0.66666667),
        (0.26666667, 0.13333333, 0.33333333),
        (0.06666667, 0.0, 0.2),
    ]
    for found, known in zip(performance_profile(OURS, [30, 50, 70, 90]), bounds, strict=True):
        close(found, *known)


def test_tasks_may_have_different_numbers_of_runs_and_one_run_has_no_interval():
    ragged = [[1.0, 2.0, 3.0], [10.0, 20.0]]
    found = interquartile_mean(ragged)
    assert found.value == pytest.approx(np.mean([2.0, 3.0, 10.0]))
    assert found.low < found.value < found.high
    alone = interquartile_mean([*ragged, [30.0]])
    assert math.isfinite(alone.value) and math.isnan(alone.low) and math.isnan(alone.high)
    assert probability_of_improvement([[1.0, 2.0]], [[2.0, 1.0, 0.0]]).value == pytest.approx(4 / 6)
