"""OfflineRL-Kit's run scripts with one word replaced: `offlinerlkit` by `offlinerlkit_romi`."""

import csv
import math
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from offlinerlkit_romi import data
from tests.data.conftest import write_hdf5
from tests.upstream.gyms import DIALECTS, LIMIT, OldGymHopper, put_in_place
from tests.upstream.kit import KitAbsent, kit_checkout

SCRIPTS = ("cql", "iql", "edac", "mopo", "combo", "rambo", "mobile", "td3bc", "mcq", "bc")
EPOCHS = 2
# the scripts' own flags; each script is given those that it declares
REDUCED = {
    "--task": ["hopper-medium-v2"],
    "--epoch": [str(EPOCHS)],
    "--step-per-epoch": ["4"],
    "--eval_episodes": ["2"],
    "--batch-size": ["16"],
    "--device": ["cpu"],
    "--hidden-dims": ["8", "8"],
    "--num-critics": ["3"],
    "--num-repeat-actions": ["2"],
    "--num-sampled-actions": ["2"],
    "--dynamics-hidden-dims": ["8", "8", "8", "8"],
    "--rollout-freq": ["4"],
    "--rollout-batch-size": ["20"],
    "--rollout-length": ["2"],
    "--dynamics-max-epochs": ["2"],
    "--dynamics-update-freq": ["8"],
    "--adv-batch-size": ["8"],
    "--bc-epoch": ["1"],
    "--bc-batch-size": ["16"],
}
STAND_INS = {
    "gym": "from offlinerlkit_romi.envs import gym_style as gym\n",
    "d4rl": "from offlinerlkit_romi.utils import load_dataset as d4rl\n",
}
REPLACED = re.compile(r"^(from|import) offlinerlkit\b", re.MULTILINE)


@pytest.fixture
def kit() -> Path:
    try:
        return kit_checkout()
    except KitAbsent as absent:
        pytest.skip(str(absent))


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """The scripts write under the working directory and seed whatever there is to seed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    np.random.set_state(numpy_state)  # noqa: NPY002


def run_script(source: str, folder: Path, monkeypatch, flags: dict[str, list[str]]) -> None:
    """Replace the package's name, and run the result as a program with `flags` it declares."""
    replaced, count = REPLACED.subn(r"\1 offlinerlkit_romi", source)
    assert count
    script = folder / "script.py"
    script.write_text(replaced)
    declared = {flag: values for flag, values in flags.items() if f'"{flag}"' in source}
    argv = [str(script), *(word for flag, values in declared.items() for word in (flag, *values))]
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(script), run_name="__main__")


def rows_of(folder: Path) -> list[dict[str, str]]:
    (progress,) = folder.glob("log/*/*/*/record/policy_training_progress.csv")
    with progress.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.upstream
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("algo", SCRIPTS)
def test_a_kit_script_runs_after_the_import_replacement(algo, dialect, kit, sandbox, monkeypatch):
    source = (kit / "run_example" / f"run_{algo}.py").read_text()
    put_in_place(DIALECTS[dialect], monkeypatch)
    # RAMBO's 1000 model updates, which no flag reduces, once are enough
    rare = {} if dialect == "gym" else {"--dynamics-update-freq": ["0"]}
    run_script(source, sandbox, monkeypatch, REDUCED | rare)
    assert_trained(sandbox)


def assert_trained(folder: Path) -> None:
    rows = rows_of(folder)
    assert [row["timestep"] for row in rows] == ["4", "8"]
    assert all(math.isfinite(float(row["eval/normalized_episode_reward"])) for row in rows)
    assert all(float(row["eval/episode_length"]) == LIMIT for row in rows)
    assert list(folder.glob("log/hopper-medium-v2/*/*/model/policy.pth"))


@pytest.mark.upstream
@pytest.mark.parametrize("algo", ["iql", "mopo"])
def test_a_kit_script_runs_without_gym_and_d4rl(algo, kit, sandbox, monkeypatch):
    source = (kit / "run_example" / f"run_{algo}.py").read_text()
    for module in ("gym", "d4rl"):
        monkeypatch.setitem(sys.modules, module, None)
        source = source.replace(f"import {module}\n", STAND_INS[module])
    file = write_hdf5(sandbox / "data.hdf5", OldGymHopper().get_dataset())
    monkeypatch.setattr(data, "load", partial(data.load, source=str(file)))
    with pytest.warns(UserWarning, match="a file of the user's"):
        run_script(source, sandbox, monkeypatch, REDUCED)
    assert len(rows_of(sandbox)) == EPOCHS


@pytest.mark.upstream
def test_the_kits_sweep_runs_after_the_import_replacement(kit, sandbox, monkeypatch):
    """Ray's part, handing out configurations and taking results, is played by a stand-in."""
    config = {"real_ratio": 0.5, "seed": 1}
    results: list[float] = []
    tune = ModuleType("ray.tune")
    monkeypatch.setattr(tune, "grid_search", list, raising=False)
    monkeypatch.setattr(tune, "run", lambda run, **_: run(config), raising=False)
    monkeypatch.setattr(
        tune,
        "report",
        lambda last_10_performance: results.append(last_10_performance),
        raising=False,
    )
    ray = ModuleType("ray")
    monkeypatch.setattr(ray, "init", lambda: None, raising=False)
    monkeypatch.setattr(ray, "tune", tune, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    put_in_place(OldGymHopper, monkeypatch)
    source = (kit / "tune_example" / "tune_mopo.py").read_text()
    run_script(source, sandbox, monkeypatch, REDUCED)
    assert_trained(sandbox)
    scores = [float(row["eval/normalized_episode_reward"]) for row in rows_of(sandbox)]
    assert results == [pytest.approx(np.mean(scores))]
    assert list(sandbox.glob("log/*/mopo&real_ratio=0.5/seed_1&*"))


@pytest.mark.upstream
def test_the_kits_plotter_reads_our_runs(kit, sandbox, monkeypatch):
    put_in_place(OldGymHopper, monkeypatch)
    run_script((kit / "run_example/run_bc.py").read_text(), sandbox, monkeypatch, REDUCED)
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    # a style that matplotlib no longer has
    monkeypatch.setattr("matplotlib.pyplot.style.use", lambda name: None)
    words = "plotter --task hopper-medium-v2 --algos bc --dpi 20 --smooth 0"
    monkeypatch.setattr(sys, "argv", words.split())
    runpy.run_path(str(kit / "run_example/plotter.py"), run_name="__main__")
    assert (sandbox / "1.png").stat().st_size > 0
