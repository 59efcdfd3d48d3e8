"""A sweep on a real Ray of this machine: one worker killed changes nothing."""

import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from offlinerlkit_romi.experiment.folder import RunFolder
from tests.experiment.conftest import TINY, TINY_SETTINGS
from tests.support.data import hopper_rows, write_hdf5
from tests.support.sweeps import differing, kill_one, resumed, runs_of, start_sweep

on_ray = pytest.importorskip("offlinerlkit_romi.experiment.sweep.on_ray", reason="needs Ray")

pytestmark = pytest.mark.slow
OPTIONS = {name: list(v) if isinstance(v, tuple) else v for name, v in TINY.items()}
FREE = [name for name in OPTIONS if name not in TINY_SETTINGS["td3bc"]] + ["dynamics_cache"]
OPTIONS |= {"epoch": 6, "step_per_epoch": 40, "eval_episodes": 1, "checkpoint_share": 1.0}
OPTIONS |= {"doctor": False, "data": "rows.hdf5", "dynamics_cache": "off"}
del OPTIONS["task"]
FILE = {"tasks": ["hopper-medium-v2"], "algorithms": ["mopo"], "seeds": [0, 1]}


@pytest.fixture
def folder(tmp_path):
    count = np.arange(600)
    rows = hopper_rows(600, terminals=count % 50 == 4, timeouts=count % 50 == 30)
    write_hdf5(tmp_path / "rows.hdf5", rows)
    return tmp_path


def start(folder, root, where, **keys):
    path = folder / f"{root}.yaml"
    options = OPTIONS | {"log_root": root}
    if "algorithms" in keys:
        options = {name: value for name, value in options.items() if name not in FREE}
    path.write_text(yaml.safe_dump(FILE | {"options": options} | keys))
    return start_sweep(path, where, folder, folder / f"{root}.txt")


def end_of(process, log, status=0):
    code = process.wait(timeout=300)
    assert code == status, log.read_text()
    return log.read_text()


def test_a_killed_worker_leaves_no_trace_in_any_run(folder):
    process = start(folder, "killed", "ray")
    killed = kill_one(folder / "killed", process)
    shown = end_of(process, folder / "killed.txt")
    assert shown.count("died: it goes on from its last saved state") == 1
    assert "Usage stats" not in shown and "dashboard" not in shown.lower()
    assert killed is not None and resumed(folder / "killed") == [killed]
    together = start(folder, "undisturbed", "local", seeds_per_trial=2, cpus=1)
    end_of(together, folder / "undisturbed.txt")
    assert len(runs_of(folder / "killed")) == 2
    assert differing(folder / "killed", folder / "undisturbed") == {}


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_asha_stops_the_trials_that_are_behind_once_the_grace_is_over(mode, sign):
    asha = on_ray.scheduler(mode, grace=2, factor=2)
    trials = [SimpleNamespace(trial_id=name) for name in ("fair", "bad", "good", "late")]
    for trial in trials:
        asha.on_trial_add(None, trial)

    def answers(epoch, *worth):
        told = [{on_ray.METRIC: sign * value, on_ray.TIME: epoch} for value in worth]
        return [asha.on_trial_result(None, *pair) for pair in zip(trials, told, strict=False)]

    go, stop = "CONTINUE", "STOP"
    assert answers(1, 3.0, 1.0, 5.0, 2.0) == [go] * 4
    # against the better half of those before it: nobody, 3, 3 and 1, 3 and 1 and 5
    assert answers(2, 3.0, 1.0, 5.0, 2.0) == [go, stop, go, stop]
    assert answers(1000, 3.0) == [go]  # nobody is stopped for having come far


def test_a_search_by_optuna_with_asha_goes_on_when_the_command_is_given_again(folder):
    pytest.importorskip("optuna")
    axes = {"actor_lr": {"from": 1e-4, "to": 1e-2, "log": True}, "hidden_dims": [[8], [8, 8]]}
    keys = {
        "algorithms": ["td3bc"],
        "axes": axes,
        "search": "optuna",
        "trials": 3,
        "asha": {"grace": 2, "factor": 2},
        "retries": 0,
    }
    process = start(folder, "search", "ray", **keys)
    while not any(RunFolder(run).finished for run in runs_of(folder / "search").values()):
        assert process.poll() is None, (folder / "search.txt").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "go on with the same command" in end_of(process, folder / "search.txt", 75)
    begun = runs_of(folder / "search")
    shown = end_of(start(folder, "search", "ray", **keys), folder / "search.txt")
    found = runs_of(folder / "search")
    assert begun.items() <= found.items() and len(found) == 3 * 2
    assert any(RunFolder(run).finished for run in found.values())
    epochs = [len(RunFolder(run).rows()) for run in found.values()]
    assert min(epochs) >= 2 and "chosen by these very runs: repeat it on fresh seeds" in shown
