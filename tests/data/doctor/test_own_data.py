"""Data of no known task: what can be told without a simulator's facts, and what must not be."""

import numpy as np
import pytest

from offlinerlkit_romi.data.doctor import diagnose
from offlinerlkit_romi.data.rows import as_rows
from tests.data.doctor.conftest import simulated
from tests.data.doctor.planting import Arrays, ends, next_over_all_ends


def checks(arrays: Arrays) -> dict[str, list[int]]:
    found = diagnose(as_rows(arrays, "own")).findings
    return {finding.check: finding.rows.tolist() for finding in found}


def take(arrays: Arrays, rows: np.ndarray) -> Arrays:
    return {key: values[rows] for key, values in arrays.items()}


@pytest.mark.parametrize("robot", ["hopper", "walker2d"])
def test_next_states_over_ends_are_found_without_a_task(robot: str) -> None:
    arrays = simulated(f"{robot}-random-v2", 2500)
    rows = next_over_all_ends(arrays, np.random.default_rng(0))
    assert checks(arrays) == {"next-of-other-episode": rows.tolist()}


@pytest.mark.parametrize("task", ["hopper-medium-v2", "halfcheetah-medium-v2"])
def test_long_recordings_cut_into_pieces_are_no_defect(task: str) -> None:
    """The flag stands in mid-episode, and the next row goes on where this one led."""
    arrays = simulated(task, 2500)
    inner = np.arange(100, 2400, 100)
    inner = inner[~ends(arrays)[inner]]
    arrays["timeouts"][inner] = True
    assert checks(arrays) == {}


@pytest.mark.parametrize("task", ["hopper-medium-v2", "halfcheetah-medium-v2"])
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_rows_left_out_are_no_reason_to_stop(task: str, share: float) -> None:
    arrays = simulated(task, 2500)
    kept = np.flatnonzero(np.random.default_rng(0).random(2500) >= share)
    torn = np.flatnonzero((np.diff(kept) > 1) & ~ends(arrays)[kept[:-1]])
    assert checks(take(arrays, kept)) == {"cut-without-flag": torn.tolist()}


def test_shuffled_rows_are_examined_one_by_one() -> None:
    arrays = simulated("hopper-medium-v2", 2500)
    shuffled = take(arrays, np.random.default_rng(0).permutation(2500))
    assert checks(shuffled) == {"not-in-order": []}


def test_terminals_piled_up_at_the_longest_length_look_like_time_limits() -> None:
    arrays = simulated("halfcheetah-medium-v2", 6000)
    rows = np.flatnonzero(arrays["timeouts"])
    arrays["terminals"], arrays["timeouts"] = arrays["timeouts"], arrays["terminals"]
    assert checks(arrays) == {"timeouts-as-terminals": rows.tolist()}


def test_data_of_single_steps_and_of_one_row_are_examined() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 40):
        arrays = {
            "observations": rng.standard_normal((n, 2)),
            "actions": rng.uniform(-1, 1, (n, 1)),
            "next_observations": rng.standard_normal((n, 2)),
            "rewards": rng.standard_normal(n),
            "terminals": np.ones(n, bool),
        }
        assert checks(arrays) == {}
        arrays["terminals"] = np.zeros(n, bool)
        assert set(checks(arrays)) <= {"not-in-order", "cut-without-flag"}
