"""A sweep on a real Ray of this machine: one worker killed changes nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from offlinerlkit_romi.experiment.folder import RunFolder
from tests.experiment.conftest import TINY, TINY_SETTINGS
from tests.support.comparing import differences, outcome
from tests.support.data import hopper_rows, write_hdf5

pytest.importorskip("ray.tune")

pytestmark = pytest.mark.slow
OPTIONS = {name: list(v) if isinstance(v, tuple) else v for name, v in TINY.items()}
FREE = [name for name in OPTIONS if name not in TINY_SETTINGS["td3bc"]] + ["dynamics_cache"]
OPTIONS |= {"epoch": 6, "step_per_epoch": 40, "eval_episodes": 1, "checkpoint_share": 1.0}
OPTIONS |= {"doctor": False, "data": "rows.hdf5", "dynamics_cache": "off"}
del OPTIONS["task"]
FILE = {"tasks": ["hopper-medium-v2"], "algorithms": ["td3bc", "mopo"], "seeds": [0, 1]}


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
    words = [sys.executable, "-m", "offlinerlkit_romi.cli", "sweep", str(path), "--on", where]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def end_of(process, status=0):
    shown = process.communicate(timeout=300)[0].decode()
    assert process.returncode == status, shown
    return shown


def runs_of(root):
    found = (path.parents[1] for path in root.glob("*/*/*/record/manifest.json"))
    return {(run.parent.name, run.name.partition("&")[0]): run for run in found}


def holder_of(run):
    """The process that trains in a run's folder."""
    lock = str((run / ".lock").resolve())
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(handle) == lock:
                return int(handle.parts[2])
        except OSError:
            continue
    return None


def kill_one(root, process):
    """Kill the process of a run that has saved a state and is not finished."""
    while process.poll() is None:
        for run in runs_of(root).values():
            states = [p for p in (run / "checkpoint").glob("state-*.pt") if int(p.stem[6:]) > 0]
            pid = holder_of(run) if states and not RunFolder(run).finished else None
            if pid is not None and pid != process.pid:
                os.kill(pid, signal.SIGKILL)
                return run
        time.sleep(0.02)
    pytest.fail(f"nobody to kill: {process.stdout.read().decode()}")


def test_a_killed_worker_leaves_no_trace_in_any_run(folder):
    process = start(folder, "killed", "ray")
    killed = kill_one(folder / "killed", process)
    shown = end_of(process)
    assert shown.count("died: it goes on from its last saved state") == 1
    assert "usage" not in shown and "dashboard" not in shown.lower()
    resumed = [run for run in runs_of(folder / "killed").values() if _parts(run)]
    assert resumed == [killed]
    end_of(start(folder, "undisturbed", "local"))
    ours, theirs = runs_of(folder / "killed"), runs_of(folder / "undisturbed")
    assert len(ours) == 4 and ours.keys() == theirs.keys()
    for name, run in ours.items():
        assert differences(outcome(run), outcome(theirs[name])) == []


def _parts(run):
    return RunFolder(run).manifest.get("resumed", [])


def test_optuna_and_asha_choose_stop_and_go_on_when_the_command_is_given_again(folder):
    pytest.importorskip("optuna")
    axes = {"actor_lr": {"from": 1e-4, "to": 1e-2, "log": True}, "hidden_dims": [[8], [8, 8]]}
    keys = {
        "algorithms": ["td3bc"],
        "axes": axes,
        "search": "optuna",
        "trials": 4,
        "asha": {"grace": 2, "factor": 2},
        "retries": 0,
    }
    process = start(folder, "search", "ray", **keys)
    while not any(RunFolder(run).finished for run in runs_of(folder / "search").values()):
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "go on with the same command" in end_of(process, 75)
    begun = runs_of(folder / "search")
    shown = end_of(start(folder, "search", "ray", **keys))
    found = runs_of(folder / "search")
    assert begun.items() <= found.items() and len(found) == 4 * 2
    assert any(RunFolder(run).finished for run in found.values())
    epochs = [len(RunFolder(run).rows()) for run in found.values()]
    assert min(epochs) >= 2 and "chosen by these very runs: repeat it on fresh seeds" in shown
