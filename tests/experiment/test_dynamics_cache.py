"""Runs with the same pre-training share one, bit for bit; no others do."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import offlinerlkit_romi
from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment import dynamics_cache
from offlinerlkit_romi.experiment.dynamics_cache import DynamicsCache, Fit, digest
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.count import dataset, make_count_dynamics
from tests.support.policies import make_dynamics
from tests.support.stopping import before, disk_is_full

WITH_MODEL = ("mopo", "combo", "mobile", "rombrl", "count_morl", "rambo", "romi")
ENTRY = "state-000000000000.pt"


@pytest.fixture
def fits():
    """Calls of the fit."""
    calls = []
    with before(EnsembleDynamics, "train", lambda *args, **_: calls.append(args)):
        yield calls


def run_tiny(root, algo="mopo", **values):
    settings = TINY_SETTINGS[algo] | {"log_root": str(root), "keep_state": True} | values
    return train(algo, **settings).run_dir


def fit_of(run_dir):
    return RunFolder(run_dir).manifest["dynamics_fit"]


@pytest.mark.parametrize("algo", WITH_MODEL)
def test_a_run_with_a_cached_fit_equals_one_that_fitted_itself(algo, tiny_data, tmp_path, fits):
    values = {"dynamics_max_epochs": 2}
    alone = run_tiny(tmp_path / "alone", algo, **values, dynamics_cache="off")
    first = run_tiny(tmp_path / "shared", algo, **values)
    taken = run_tiny(tmp_path / "shared", algo, **values)
    assert len(fits) == 2
    assert not (tmp_path / "alone" / ".dynamics").exists()
    assert [fit_of(run)["taken"] for run in (alone, first, taken)] == [False, False, True]
    for run in (first, taken):
        assert differences(outcome(alone), outcome(run)) == []
    said = (Path(taken) / "record" / "consoleout_backup.txt").read_text()
    assert f"dynamics model: taken from the cache (fitted by {first})" in said


def test_algorithms_that_fit_alike_share_one_fit(tiny_data, tmp_path, fits):
    keys = {}
    for algo in WITH_MODEL:
        # the presets differ in what the fit is told: here all say the same
        layers = {"dynamics_hidden_dims": (8, 8), "dynamics_weight_decay": (0.0, 0.0, 0.0)}
        told = {"dynamics_lr": 1e-3, "holdout_ratio": 0.2, "logvar_loss_coef": 0.01}
        keys[algo] = fit_of(run_tiny(tmp_path, algo, **layers, **told))["key"]
    assert keys["mopo"] == keys["combo"] == keys["mobile"] == keys["rombrl"]  # raw observations
    assert keys["rambo"] == keys["romi"]  # standardised ones
    assert len({keys["mopo"], keys["romi"], keys["count_morl"]}) == 3  # the last fits a coder too
    assert len(fits) == 3


OTHER = {
    "seed": {"seed": 1},
    "learning rate": {"dynamics_lr": 5e-4},
    "width": {"dynamics_hidden_dims": (9,)},
    "weight decay": {"dynamics_weight_decay": (0.0, 1e-3)},
    "members": {"n_ensemble": 4},
    "elites": {"n_elites": 1},
    "epochs": {"dynamics_max_epochs": 2},
    "early stop": {"max_epochs_since_update": 1},
    "batch": {"dynamics_batch_size": 32},
    "hold-out": {"holdout_ratio": 0.3},
    "bounds": {"logvar_loss_coef": 0.5},
    "error segments": {"error_segments": 1},
    "threads": {"threads": 2},
    "its own threads": {"dynamics_threads": 2},
}
SAME = {
    "policy": {"actor_lr": 1e-3, "penalty_coef": 9.0, "batch_size": 4, "epoch": 1},
    "name": {"algo_name": "other"},
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_whatever_changes_the_fit_makes_another_one(change, tiny_data, tmp_path, fits):
    try:
        three = {"dynamics_max_epochs": 3}
        first, second = run_tiny(tmp_path, **three), run_tiny(tmp_path, **three | change)
    finally:
        torch.set_num_threads(1)
    assert fit_of(first)["key"] != fit_of(second)["key"] and len(fits) == 2


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_does_not_change_the_fit_does_not_repeat_it(change, tiny_data, tmp_path, fits):
    first, second = run_tiny(tmp_path), run_tiny(tmp_path, **change)
    assert fit_of(first)["key"] == fit_of(second)["key"] and len(fits) == 1


@pytest.mark.parametrize("what", ["rows", "model rows", "code", "torch"])
def test_other_data_and_other_code_make_another_fit(what, tiny_data, tmp_path, fits, monkeypatch):
    run_tiny(tmp_path)
    data = make_dataset()
    if what == "rows":
        data.rewards[7] += 1e-6
    elif what == "model rows":
        data = make_dataset(model_rows=np.arange(len(data)) != 3)
    elif what == "code":
        monkeypatch.setattr(dynamics_cache, "_code_digest", lambda: "another version")
    else:
        monkeypatch.setattr(torch, "__version__", "99.0")
    assert isinstance(data, Dataset)
    tiny_data.dataset = data
    run_tiny(tmp_path)
    assert len(fits) == 2


def test_the_key_knows_every_file_that_a_fit_runs_through():
    root, ran = Path(offlinerlkit_romi.__file__).parent, set()

    def hear(frame, *_):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(root):
            ran.add(path.relative_to(root).as_posix())

    plain, counting = make_dynamics(dtype=torch.float32), make_count_dynamics()
    sys.setprofile(hear)
    try:
        for dynamics in (plain, counting):
            dynamics.train(dataset(), max_epochs=2, batch_size=16)
    finally:
        sys.setprofile(None)
    ran.discard("engine/allocator.py")  # what memory costs, never what is in it
    in_a_graph = {"engine/state.py", "engine/tape.py"}
    assert {*dynamics_cache._CODE} == ran | in_a_graph


@pytest.mark.parametrize("damage", ["cut", "flipped", "no digest"])
def test_a_damaged_entry_is_told_and_fitted_again(damage, tiny_data, tmp_path, fits, capsys):
    first = run_tiny(tmp_path)
    (entry,) = (tmp_path / ".dynamics").glob(f"*/{ENTRY}")
    content = bytearray(entry.read_bytes())
    if damage == "cut":
        entry.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    else:
        entry.with_name(ENTRY + ".sha256").unlink()
    capsys.readouterr()
    second = run_tiny(tmp_path)
    said = [line for line in capsys.readouterr().out.splitlines() if "is damaged" in line]
    assert len(said) == 1 and said[0].endswith("fitting again")
    assert fit_of(run_tiny(tmp_path))["taken"] and len(fits) == 2
    assert differences(outcome(first), outcome(second)) == []


def test_a_run_waits_for_one_that_is_making_the_same_fit(tiny_data, tmp_path, fits):
    first = run_tiny(tmp_path)
    told, runs = threading.Event(), []
    cache = DynamicsCache(tmp_path / ".dynamics", lambda line: None)

    def second():
        runs.append(run_tiny(tmp_path))

    class Telling(DynamicsCache):
        def __init__(self, folder, log):
            super().__init__(folder, lambda line: (log(line), "waiting" in line and told.set()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offlinerlkit_romi.experiment.pretrain.DynamicsCache", Telling)
        with cache.held(fit_of(first)["key"]):
            thread = threading.Thread(target=second)
            thread.start()
            assert told.wait(60)
            assert not runs
        thread.join(60)
    assert fit_of(runs[0])["taken"] and len(fits) == 1
    assert "another run is fitting the same one" in (
        (Path(runs[0]) / "record" / "consoleout_backup.txt").read_text()
    )


def test_a_full_disk_keeps_no_fit_and_harms_no_run(tiny_data, tmp_path, fits):
    with before(dynamics_cache.StateStore, "save", disk_is_full):
        run_dir = run_tiny(tmp_path, checkpoint_freq=0, keep_state=False)
    assert "cannot keep the fit" in (Path(run_dir) / "record/consoleout_backup.txt").read_text()
    assert not fit_of(run_tiny(tmp_path))["taken"]


def test_a_wrong_cache_is_refused_before_a_run_folder_exists(tiny_data, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"--dynamics-cache .*file: no folder that can be written"):
        run_tiny(tmp_path / "log", dynamics_cache=str(tmp_path / "file"))
    assert not (tmp_path / "log").exists()


def test_an_entry_says_what_it_is_of(tiny_data, tmp_path):
    run_dir = run_tiny(tmp_path / "log", dynamics_cache=str(tmp_path / "cache"), seed=3)
    about = json.loads((tmp_path / "cache" / fit_of(run_dir)["key"] / "about.json").read_text())
    assert about["seed"] == 3 and about["fitted_by"] == run_dir
    assert about["settings"]["holdout_ratio"] == 0.2


def test_a_digest_sees_values_names_shapes_and_types():
    tensor = torch.arange(6.0)
    contents = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.view(2, 3)},
        {"a": tensor.double()},
        {"a": tensor + 1},
        {"a": tensor.tolist()},
        {"a": None},
        {"a": [tensor], "b": []},
        {"a": [], "b": [tensor]},
        {},
    ]
    assert len({digest(content) for content in contents}) == len(contents)
    assert digest({"a": tensor.clone()}) == digest({"a": tensor})
    assert digest(tensor.view(2, 3).T) == digest(tensor.view(2, 3).T.contiguous())


def test_a_put_fit_comes_back_as_it_was(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    part = torch.arange(3.0)
    cache = DynamicsCache(tmp_path, lambda line: None)
    fit = Fit(torch.tensor([0.5, 0.25]), [], 1.5, "run")
    assert cache.take("key", {"part": part}) is None
    cache.put("key", {"part": part}, fit, {})
    part.zero_()
    back = cache.take("key", {"part": part})
    assert part.tolist() == [0.0, 1.0, 2.0] and back is not None
    assert back.errors.tolist() == [0.5, 0.25] and back[1:] == fit[1:]
