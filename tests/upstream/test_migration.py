"""docs/migration.md: its differences fit the kit's scripts, and its snippets run."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi import load_policy
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.utils.scaler import StandardScaler
from tests.support.data import write_hdf5
from tests.upstream.checkpoints import KIT_RUNS, OBS, act
from tests.upstream.gyms import OldGymHopper, put_in_place
from tests.upstream.running import (
    MIGRATION,
    SCRIPTS,
    TASK,
    apply_diff,
    assert_trained,
    import_replaced,
    rows_of,
    run_script,
)

PAGE = MIGRATION.read_text("utf-8")
LOADING = [
    block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "load_policy" in block
]


@pytest.mark.upstream
@pytest.mark.parametrize("algo", ["iql", "mopo"])
def test_a_kit_script_runs_without_gym_and_d4rl(algo, checkout, sandbox, installed):
    installed(gym=None, d4rl=None)
    source = import_replaced((checkout / "run_example" / f"run_{algo}.py").read_text())
    file = write_hdf5(sandbox / "data.hdf5", OldGymHopper().get_dataset())
    ours = apply_diff("without-gym", source)
    with pytest.warns(UserWarning, match="a file of the user's"):
        run_script(ours.replace("dataset(env)", f"dataset(env, source={str(file)!r})"), sandbox)
    assert len(rows_of(sandbox)) == 2


@pytest.mark.upstream
def test_the_kits_own_trainer_trains_romi(kit, checkout, sandbox, installed):
    put_in_place(OldGymHopper, installed)
    script = (checkout / "run_example" / "run_rambo.py").read_text()
    run_script(apply_diff("romi-in-the-kit", script), sandbox, dynamics_update_freq=["4"])
    assert_trained(sandbox)
    assert all(0.5 < float(row["romi/weight_mean"]) < 2.0 for row in rows_of(sandbox))
    assert all(float(row["romi/hypergrad_norm"]) > 0 for row in rows_of(sandbox))
    (run,) = sandbox.glob("log/*/*/seed_*")
    one = np.ones((1, OBS.shape[1]), np.float32)
    policy = load_policy(run, "cpu", algo="romi", obs_scaler=StandardScaler(0 * one, one))
    weights = torch.load(run / "model" / "policy.pth")
    assert "weighting_net.net.model.0.weight" in weights
    for name, value in policy.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.upstream
@pytest.mark.parametrize("algo", SCRIPTS)
def test_every_flag_of_a_kit_script_is_one_of_train(algo, checkout):
    source = (checkout / "run_example" / f"run_{algo}.py").read_text()
    flags = re.findall(r'add_argument\("(--[\w-]+)", type=(\w+).*?default=([^,)]+)', source)
    assert len(flags) > 8
    values = {"int": "5", "float": "0.5", "bool": "True", "str": "cpu"}
    words: list[str] = []
    for flag, kind, default in flags:
        value = default.strip("\"'") if kind == "str" and default[0] in "\"'" else values[kind]
        if flag not in ("--hidden-dims", "--dynamics-hidden-dims", "--dynamics-weight-decay"):
            words += [flag, value]
    assert parse(algo, words).config.eval_episodes == 5


@pytest.mark.parametrize("number", range(len(LOADING)))
def test_a_kit_run_is_loaded_as_the_page_says(number, here):
    run = Path("log", TASK, "iql", "seed_0&timestamp_24-0101-120000")
    shutil.copytree(KIT_RUNS / "iql", run)
    (run / "record").mkdir()
    (run / "record" / "hyper_param.json").write_text(f'{{"algo_name": "iql", "task": "{TASK}"}}\n')
    for name in ("iql", "td3bc"):
        shutil.copytree(KIT_RUNS / name / "model", name)
    one = np.ones((1, OBS.shape[1]), np.float32)
    names = {"observations": OBS, "obs_mean": 0.2 * one, "obs_std": 1.5 * one}
    exec(LOADING[number], names)
    with np.load(KIT_RUNS / "actions.npz") as recorded:
        expected = recorded["td3bc" if "td3bc" in LOADING[number] else "iql"]
    np.testing.assert_allclose(act(names["policy"]), expected, rtol=0, atol=1e-6)


def test_links_of_the_page_lead_somewhere():
    targets = re.findall(r"\]\((?!http)([^)#]+)", PAGE)
    assert targets
    for target in targets:
        assert (MIGRATION.parent / target).is_file(), target
