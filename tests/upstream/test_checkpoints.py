"""Checkpoints go both ways: what one library saved, the other loads, and acts alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi import load_dataset, load_policy, train
from offlinerlkit_romi.cli import main
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.kit_runs import obs_statistics
from offlinerlkit_romi.utils.scaler import StandardScaler
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.data import hopper_rows, write_hdf5
from tests.upstream.checkpoints import (
    KIT_RUNS,
    POLICIES,
    TASK,
    act,
    build,
    predict,
    save,
)
from tests.upstream.kit import load_ours

# the kit has no run script for the other two
LOADABLE = [name for name in POLICIES if name not in ("sac", "td3")]
TOLERANCE = 1e-6


@pytest.fixture
def recorded():
    with np.load(KIT_RUNS / "actions.npz") as stored:
        return dict(stored)


def assert_same(left, right) -> None:
    np.testing.assert_allclose(act(left), act(right), rtol=0, atol=TOLERANCE)
    if hasattr(left, "dynamics"):
        for ours, theirs in zip(predict(left), predict(right), strict=True):
            # the bounds of the log-variance, about 10, cancel in it
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=10 * TOLERANCE)


@pytest.mark.upstream
@pytest.mark.parametrize("direction", ["from the kit", "to the kit"])
@pytest.mark.parametrize("name", POLICIES)
def test_what_one_library_saves_the_other_loads(name, direction, kit, tmp_path: Path) -> None:
    libraries = [kit, load_ours()] if direction == "from the kit" else [load_ours(), kit]
    saved, loaded = (build(name, library, seed) for seed, library in enumerate(libraries))
    assert np.abs(act(saved) - act(loaded)).max() > 0.01
    save(saved, tmp_path)
    loaded.load_state_dict(torch.load(tmp_path / "policy.pth"))
    if hasattr(loaded, "dynamics"):
        loaded.dynamics.load(str(tmp_path))
    assert_same(loaded, saved)


@pytest.mark.upstream
@pytest.mark.parametrize("name", POLICIES)
def test_the_recorded_runs_are_what_the_kit_acts_like(name, kit, recorded) -> None:
    policy = build(name, kit, seed=0)
    policy.load_state_dict(torch.load(KIT_RUNS / name / "model" / "policy.pth"))
    np.testing.assert_allclose(act(policy), recorded[name], rtol=0, atol=TOLERANCE)


def scaler_of(name: str) -> StandardScaler | None:
    """What the recorded policy was given; RAMBO's scenario takes observations as they are."""
    shape = (1, 11)
    if name == "td3bc":
        return StandardScaler(np.full(shape, 0.2, np.float32), np.full(shape, 1.5, np.float32))
    one = np.ones(shape, np.float32)
    return StandardScaler(0 * one, one) if name == "rambo" else None


@pytest.mark.parametrize("name", LOADABLE)
def test_a_run_of_the_kits_is_loaded_by_its_folder(name, recorded) -> None:
    policy = load_policy(KIT_RUNS / name, "cpu", algo=name, task=TASK, obs_scaler=scaler_of(name))
    np.testing.assert_allclose(act(policy), recorded[name], rtol=0, atol=TOLERANCE)
    assert type(policy).__name__.lower() == f"{name}policy" and not policy.training
    if hasattr(policy, "dynamics"):
        state = torch.load(KIT_RUNS / name / "model" / "dynamics.pth")
        for key, value in policy.dynamics.model.state_dict().items():
            assert torch.equal(value, state[key]), key
        mean = np.load(KIT_RUNS / name / "model" / "mu.npy")
        np.testing.assert_array_equal(policy.dynamics.scaler.mu, mean)


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_a_policy_of_the_kits_is_loaded_by_its_state_dict(name, recorded) -> None:
    policy = build(name, load_ours(), seed=0)
    policy.load_state_dict(torch.load(KIT_RUNS / name / "model" / "policy.pth"))
    np.testing.assert_allclose(act(policy), recorded[name], rtol=0, atol=TOLERANCE)


def test_a_run_that_tells_its_algorithm_and_task_is_believed(tmp_path, recorded) -> None:
    shutil.copytree(KIT_RUNS / "iql", tmp_path / "run")
    (tmp_path / "run" / "record").mkdir()
    told = {"algo_name": "iql", "task": TASK, "seed": 0}
    (tmp_path / "run" / "record" / "hyper_param.json").write_text(json.dumps(told) + "\n")
    np.testing.assert_array_equal(act(load_policy(tmp_path / "run", "cpu")), recorded["iql"])
    file = tmp_path / "run" / "model" / "policy.pth"
    np.testing.assert_array_equal(act(load_policy(file, "cpu")), recorded["iql"])


WRONG = {
    "of what algorithm": ("iql", {"task": TASK}, "does not tell its algo"),
    "for what task": ("iql", {"algo": "iql"}, "does not tell its task"),
    "another algorithm": ("iql", {"algo": "cql", "task": TASK}, "is of another network"),
    "no algorithm": ("iql", {"algo": "sql", "task": TASK}, "unknown algorithm 'sql'"),
    "another task": (
        "iql",
        {"algo": "iql", "task": "walker2d-medium-v2"},
        "takes 11 observations and gives 3 actions, walker2d-medium-v2 has 17 and 6",
    ),
    "no statistics": (
        "td3bc",
        {"algo": "td3bc", "task": TASK},
        "give --data, or obs_scaler= from Python",
    ),
}


@pytest.mark.parametrize("name, options, message", WRONG.values(), ids=WRONG.keys())
def test_what_a_run_does_not_tell_must_be_told(name, options, message) -> None:
    with pytest.raises(UserError, match=message):
        load_policy(KIT_RUNS / name, "cpu", **options)


def test_weights_of_something_else_are_refused(tmp_path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "policy.pth")
    with pytest.raises(UserError, match="is no policy of the kit's"):
        load_policy(tmp_path, "cpu", algo="bc", task=TASK)


@pytest.mark.parametrize("name", ["bc", "cql", "edac", "mobile"])
def test_weights_taken_for_another_algorithms_load_or_are_refused_in_one_line(name) -> None:
    one = np.ones((1, 11), np.float32)
    for algo in LOADABLE:
        try:
            load_policy(
                KIT_RUNS / name,
                "cpu",
                algo=algo,
                task=TASK,
                obs_scaler=StandardScaler(0 * one, one),
            )
        except UserError as error:
            assert "is of another network" in str(error) and "\n" not in str(error)
        else:
            assert {algo, name} <= {"cql", "mopo", "combo", "rambo"} or algo == name
            continue
        assert algo != name


def test_senseless_shapes_are_refused_in_one_line(tmp_path) -> None:
    state = torch.load(KIT_RUNS / "edac" / "model" / "policy.pth")
    for shape in ((), (3,), (2, 0, 4)):
        odd = {name: torch.zeros(shape) for name in state}
        torch.save(odd, tmp_path / "policy.pth")
        with pytest.raises(UserError) as caught:
            load_policy(tmp_path, "cpu", algo="edac", task=TASK)
        assert "\n" not in str(caught.value)


def test_a_run_of_the_kits_is_evaluated_from_the_command_line(tmp_path, capsys) -> None:
    words = ["evaluate", str(KIT_RUNS / "iql"), "--algo", "iql", "--task", TASK]
    assert main([*words, "--episodes", "1", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "iql on hopper-medium-v2, unknown data\n" in shown
    assert "nan" not in shown and "the data's own" not in shown


def test_its_data_give_the_statistics_that_it_lacks(tmp_path, capsys) -> None:
    rows = hopper_rows(30)
    file = write_hdf5(tmp_path / "rows.hdf5", rows)
    words = ["evaluate", str(KIT_RUNS / "td3bc"), "--algo", "td3bc", "--task", TASK]
    assert main([*words, "--episodes", "1", "--device", "cpu", "--data", str(file)]) == 0
    assert "td3bc on hopper-medium-v2, data from a file" in capsys.readouterr().out
    scaler = obs_statistics(load_dataset(TASK, str(file)))
    obs = rows["observations"].astype(np.float64)
    np.testing.assert_allclose(scaler.mu, obs.mean(0, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(scaler.std, obs.std(0, keepdims=True) + 1e-3, atol=1e-6)


def test_a_run_of_ours_is_not_told_what_it_knows(tmp_path) -> None:
    summary = train("bc", **TINY_SETTINGS["bc"], log_root=str(tmp_path), data=make_dataset())
    assert load_policy(summary.run_dir, "cpu", algo="bc") is not None
    with pytest.raises(UserError, match="is a run of algo bc, not iql: leave out --algo"):
        load_policy(summary.run_dir, "cpu", algo="iql")
