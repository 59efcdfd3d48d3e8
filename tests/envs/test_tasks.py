import subprocess
import sys

import numpy as np
import pytest

from offlinerlkit_romi.data.benchmarks import origin_of
from offlinerlkit_romi.data.load import SOURCES
from offlinerlkit_romi.envs import (
    FAMILIES,
    Task,
    family_of,
    get_task,
    normalized_score,
    normalized_std,
    task_names,
)
from offlinerlkit_romi.errors import UserError


def test_there_are_five_data_sets_of_three_simulators() -> None:
    expected = {
        f"{simulator}-{dataset}-v2"
        for simulator in ("halfcheetah", "hopper", "walker2d")
        for dataset in ("random", "medium", "medium-replay", "medium-expert", "expert")
    }
    assert set(task_names("d4rl-mujoco")) == expected
    assert all(get_task(name).name == name for name in task_names())


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("halfcheetah-medium-v2", ("HalfCheetah-v4", 17, 6, -280.178953, 12135.0)),
        ("hopper-medium-replay-v2", ("Hopper-v4", 11, 3, -20.272305, 3234.3)),
        ("walker2d-medium-expert-v2", ("Walker2d-v4", 17, 6, 1.629008, 4592.3)),
    ],
)
def test_a_task_carries_d4rls_facts(name: str, facts: tuple[object, ...]) -> None:
    assert get_task(name) == Task(name, *facts, 1000, name.split("-")[0])  # type: ignore[arg-type]


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        get_task("hopper-medium-v2").ref_min = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("name", ["hoper-medium-v2", "Hopper-medium-v2", "hopper-medium-v0"])
def test_an_unknown_task_is_answered_with_the_nearest_names_and_the_list(name: str) -> None:
    with pytest.raises(
        UserError, match=r"did you mean hopper-medium-v2.*`offlinerlkit-romi data list`"
    ) as error:
        get_task(name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_name_like_no_other_is_answered_without_a_guess() -> None:
    with pytest.raises(UserError, match="unknown task 'zzz': `offlinerlkit-romi data list`"):
        get_task("zzz")


@pytest.mark.parametrize("name", task_names())
def test_the_ends_of_the_scale_score_0_and_100(name: str) -> None:
    task = get_task(name)
    scores = normalized_score(np.array([task.ref_min, task.ref_max]), task)
    np.testing.assert_allclose(scores, [0.0, 100.0], atol=1e-12)
    assert isinstance(normalized_score(task.ref_max, name), float)


def test_the_normalised_spread_is_the_spread_of_the_scores() -> None:
    returns = np.array([1000.0, 1500.0, 2700.0])
    scores = normalized_score(returns, "hopper-medium-v2")
    assert normalized_std(returns.std(), "hopper-medium-v2") == pytest.approx(scores.std())
    assert normalized_std(0.0, "hopper-medium-v2") == 0.0


def test_tasks_need_no_simulator_package() -> None:
    code = (
        "import sys; sys.modules['gymnasium'] = None; sys.modules['mujoco'] = None;"
        "from offlinerlkit_romi.envs import get_task; get_task('hopper-medium-v2')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_task_belongs_to_a_family_and_an_origin_and_is_like_a_task() -> None:
    for name in task_names():
        task = get_task(name)
        assert FAMILIES[task.family] is family_of(task)
        assert origin_of(task).label in SOURCES
        assert task.like is None or task.like in task_names(task.family)
