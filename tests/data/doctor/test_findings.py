"""The doctor finds each planted defect, row for row, and nothing in clean data."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offlinerlkit_romi.data.doctor import CHECKS, Finding, diagnose
from offlinerlkit_romi.data.doctor.fix import fix
from offlinerlkit_romi.data.doctor.replay import check_replay
from offlinerlkit_romi.data.doctor.starts import claimed, simulator_of
from offlinerlkit_romi.data.rows import Rows, as_rows
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.standins.recipes import generate
from tests.data.doctor.conftest import Make, simulated
from tests.data.doctor.planting import PLANTS, UNFIXABLE, next_over_all_ends
from tests.support.data import read_rows
from tests.support.standins import simulated_here

# of each simulator the data with ends of both kinds, and HalfCheetah, which never terminates
TASKS = ("hopper-medium-expert-v2", "halfcheetah-medium-v2", "walker2d-medium-expert-v2")
ROWS = 6000
KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert")


def findings(data: Rows, task: str | None) -> tuple[Finding, ...]:
    return diagnose(claimed(data, None if task is None else get_task(task))).findings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d"])
def test_nothing_is_found_in_clean_data(clean: Make, robot: str, kind: str) -> None:
    task = f"{robot}-{kind}-v2"
    for changes in ({}, {"next_observations": None}):
        data = clean(task, 2500, **changes)
        assert findings(data, task) == ()
        assert findings(data, None) == ()  # as a user's own data


def possible(task: str) -> list[str]:
    """HalfCheetah has no terminals to lose."""
    return [name for name in PLANTS if not ("halfcheetah" in task and name == "lost terminals")]


CASES = [(task, name) for task in TASKS for name in possible(task)]


@pytest.mark.parametrize(("task", "name"), CASES)
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,  # never another outcome on another day
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32 - 1))
def test_planted_defect_is_found_row_for_row_and_its_correction_is_clean(
    task: str, name: str, seed: int
) -> None:
    arrays, (check, plant) = simulated(task, ROWS), PLANTS[name]
    rows = plant(arrays, np.random.default_rng(seed))
    data = as_rows(arrays, "planted.hdf5")
    found = findings(data, task)
    assert [finding.check for finding in found] == [check]
    assert found[0].rows.tolist() == rows.tolist()
    assert found[0].count == len(rows)
    assert found[0].first == (rows[0] if len(rows) else None)
    assert found[0].remedy and str(len(rows) or "") in str(found[0])

    made = fix(claimed(data, get_task(task)))
    fixed, done, left = made.rows, made.done, made.left
    if check in UNFIXABLE:
        assert not done and left.findings == found
        return
    assert left.findings == () and len(done) == 1 and done[0].startswith(check)
    assert len(data) - len(rows) <= len(fixed) <= len(data)
    for key, values in fixed.columns.items():
        assert values.dtype == arrays[key].dtype


def test_every_check_is_planted_or_tested_by_itself() -> None:
    planted = {check for check, _ in PLANTS.values()}
    assert set(CHECKS) - planted == {"not-in-order"}


@pytest.mark.parametrize("robot", ["Hopper", "HalfCheetah", "Walker2d"])
def test_nothing_is_found_in_clean_neorl_files_and_they_replay_alike(
    robot: str,
) -> None:
    """Their observations show the root's x, and `done` is also set at the time limit."""
    task = f"{robot}-v3-medium"
    with simulated_here():
        data = read_rows(generate(task, 2000, progress=False))
    assert data.metadata["task"] == task
    records = claimed(data, get_task(task))
    assert simulator_of(records) is not None and not diagnose(records).findings
    assert check_replay(records, rows=60) is None
    rows = next_over_all_ends(data.columns, np.random.default_rng(0))
    if len(rows):
        assert findings(data, task)[0].rows.tolist() == rows.tolist()


def test_nothing_is_found_in_a_clean_maze_and_a_lost_time_limit_is() -> None:
    """There a terminal is the goal, which does not end a trajectory; jumps of the position do."""
    task = get_task("antmaze-umaze-v2")
    with simulated_here():
        data = read_rows(generate(task.name, 900, 0, progress=False))
    records = claimed(data, task)
    assert not diagnose(records).findings
    assert check_replay(records, rows=40) is None
    timeouts = data.columns["timeouts"].copy()
    rows = np.flatnonzero(timeouts[:-1])
    assert len(rows)
    timeouts[rows] = False
    found = findings(data.with_columns(timeouts=timeouts), task.name)
    assert [(f.check, f.rows.tolist()) for f in found] == [("next-of-other-episode", rows.tolist())]
    made = fix(claimed(data.with_columns(timeouts=timeouts), task))
    assert not made.left.findings
    assert np.array_equal(made.rows.columns["timeouts"], data.columns["timeouts"])
