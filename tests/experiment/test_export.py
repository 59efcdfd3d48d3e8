"""An exported policy: one file that acts, and scores, as the run's policy does, without us."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import offlinerlkit_romi as romi
from offlinerlkit_romi import cli
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.envs.evaluation import EvalSettings, Evaluator
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.export import Deployed, trace
from offlinerlkit_romi.experiment.folder import DIAGNOSIS, MANIFEST, SCALER, SUMMARY
from tests.experiment.conftest import TINY_SETTINGS

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

EPISODES, STEPS = 3, 40
ACCURACY = 1e-5
# what a user runs on another machine; nothing but the three packages can be imported
SCRIPT = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "offlinerlkit_romi", "onnx", "onnxscript", "scipy"):
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Refuse())
import gymnasium, numpy as np, onnxruntime

folder, model, seeds, steps = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
session = onnxruntime.InferenceSession(model)
act = lambda obs: session.run(["actions"], {"observations": np.asarray(obs, np.float32)})[0]
observations = np.load(folder + "/observations.npy")
for batch in (1, 3, 256):
    blocks = [act(observations[i : i + batch]) for i in range(0, len(observations), batch)]
    np.save(f"{folder}/actions_{batch}.npy", np.concatenate(blocks))
env, returns = gymnasium.make("Pendulum-v1"), []
for seed in seeds:
    obs, total = env.reset(seed=seed)[0], 0.0
    for _ in range(steps):
        obs, reward, *_ = env.step(act(obs[None])[0])
        total += reward
    returns.append(total)
print(json.dumps([returns, session.get_modelmeta().custom_metadata_map]))
"""


def pendulum_data(rows: int = 400) -> dict[str, np.ndarray]:
    """Rows as a pendulum might leave them, speeds on another scale than angles."""
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(rows + 1, 3)) * [0.7, 0.7, 4.0] + [0, 0, 1]).astype(np.float32)
    return {
        "observations": states[:-1],
        "actions": rng.uniform(-2, 2, (rows, 1)).astype(np.float32),
        "next_observations": states[1:],
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
    }


def run_of(algo: str, root: Path) -> Path:
    """A trained policy that takes torques between -2 and 2."""
    tiny = {k: v for k, v in TINY_SETTINGS[algo].items() if k != "task"}
    made = romi.train(
        algo,
        data=pendulum_data(),
        task="pendulum",
        action_bounds=(-2, 2),
        termination="none",
        env="Pendulum-v1",
        max_episode_steps=STEPS,
        **tiny | {"epoch": 1, "estimates": "none", "log_root": str(root / "log")},
    )
    return Path(made.run_dir)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithms_export_acts_and_scores_as_trained_without_us(
    algo: str, tmp_path: Path
) -> None:
    run = run_of(algo, tmp_path)
    policy = romi.load_policy(run, device="cpu")
    rng = np.random.default_rng(1)
    obs = (rng.normal(size=(10_000, 3)) * [0.7, 0.7, 4.0]).astype(np.float32)
    np.save(tmp_path / "observations.npy", obs)
    model = romi.export(run)
    assert model == run / "model" / "policy.onnx"
    evaluator = Evaluator(policy.task, EvalSettings(EPISODES, seed=5))
    seeds = json.dumps(evaluator._seeds())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(model), seeds, str(STEPS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    returns, told = json.loads(done.stdout)
    expected = policy.select_action(obs, deterministic=True)
    assert np.abs(expected).max() <= 2 and expected.std() > 1e-4
    for batch in (1, 3, 256):
        actions = np.load(tmp_path / f"actions_{batch}.npy")
        assert actions.dtype == np.float32
        np.testing.assert_allclose(actions, expected, rtol=0, atol=ACCURACY)
    report = romi.evaluate(run, episodes=EPISODES, seed=5, device="cpu")
    np.testing.assert_allclose(np.mean(returns), report.score, rtol=1e-4)
    np.testing.assert_allclose(np.std(returns), report.score_std, rtol=1e-3)
    assert (told["algorithm"], told["task"], told["data_source"]) == (algo, "pendulum", "arrays")


def test_the_file_tells_what_the_policy_is(tmp_path: Path) -> None:
    import onnx

    run = run_of("td3bc", tmp_path)
    policy = romi.load_policy(run, device="cpu")
    made = onnx.load(romi.export(run, tmp_path / "made.onnx"))
    told = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(told["action_low"]) == [-2.0] and json.loads(told["action_high"]) == [2.0]
    scale = json.loads(told["normalisation"])
    np.testing.assert_allclose(scale["mean"], policy.scaler.mu.reshape(-1))
    np.testing.assert_allclose(scale["std"], policy.scaler.std.reshape(-1))
    assert (told["env_id"], told["status"]) == ("Pendulum-v1", "finished")
    assert json.loads(told["score"])["kind"] == "score" and told["steps"] == "4"
    assert len(told["data_sha256"]) == 64
    assert not any("critic" in entry.name for entry in made.graph.initializer)


def test_the_torch_format_is_loaded_by_torch_alone(tmp_path: Path) -> None:
    run = run_of("iql", tmp_path)
    assert cli.main(["export", str(run), "--format", "torch"]) == 0
    obs = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    np.save(tmp_path / "observations.npy", obs)
    program = f"""
import sys; sys.modules["offlinerlkit_romi"] = None
import json, numpy, torch
told = {{"metadata.json": ""}}
act = torch.export.load({str(run / "model" / "policy.pt2")!r}, extra_files=told).module()
obs = torch.as_tensor(numpy.load("observations.npy"))
blocks = [[act(obs[i : i + n]) for i in range(0, 300, n)] for n in (1, 3, 256)]
torch.save([torch.cat(block) for block in blocks], "actions.pt")
assert json.loads(told["metadata.json"])["algorithm"] == "iql"
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    expected = romi.load_policy(run, device="cpu").select_action(obs, deterministic=True)
    for actions in torch.load(tmp_path / "actions.pt"):
        np.testing.assert_allclose(actions.numpy(), expected, rtol=0, atol=ACCURACY)


@pytest.fixture(scope="module")
def td3bc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of("td3bc", tmp_path_factory.mktemp("td3bc"))


@pytest.fixture
def run(td3bc: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(td3bc, tmp_path / "run"))


def refused(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with."""
    assert cli.main(list(map(str, words))) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "Traceback" not in shown
    return shown


def test_a_run_whose_weights_are_nan_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(run / "model" / "policy.pth")
    state["actor.last.bias"][0] = torch.nan
    torch.save(state, run / "model" / "policy.pth")
    assert "actor.last.bias is not finite" in refused(["export", run], capsys)
    assert not list(run.glob("model/*.onnx*"))


def test_a_run_that_the_sentinel_stopped_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / DIAGNOSIS).write_text('{"stopped": true}')
    (run / SUMMARY).unlink()
    assert "diverged" in refused(["export", run], capsys)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (SCALER, "policy_scaler is missing"),
        ("record", "does not tell its algo"),
        ("model/policy.pth", "holds no policy yet"),
        (MANIFEST, "does not tell its algo"),
        (".", "is not a run's folder"),
    ],
)
def test_a_run_folder_half_deleted_is_refused(
    gone: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "checkpoint")
    place = run / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert message in refused(["export", run], capsys)


def test_a_damaged_file_of_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model/policy.pth", f"{SCALER}/mu.npy", SUMMARY, MANIFEST):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2])
        assert Path(name).name in refused(["export", run], capsys)
        (run / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("place", "value"),
    [("obs_dim", "x"), ("action_dim", None), ("source", 3), ("behaviour_return", [])],
)
def test_a_manifest_that_tells_nonsense_of_the_data_is_refused(
    place: str, value: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((run / MANIFEST).read_text())
    told["data"][place] = value
    (run / MANIFEST).write_text(json.dumps(told))
    assert f"is damaged: its data's {place} is" in refused(["export", run], capsys)


def test_a_summary_with_text_for_a_number_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((run / SUMMARY).read_text())
    (run / SUMMARY).write_text(json.dumps(told | {"score_last": "high"}))
    assert "summary.json is damaged: score_last is 'high'" in refused(["export", run], capsys)


def test_places_and_words_that_make_no_sense_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in refused(["export", run, "--output", run / "no" / "x.onnx"], capsys)
    assert "cannot write" in refused(["export", run, "--output", run], capsys)
    assert "onnx" in refused(["export", run, "--format", "onxx"], capsys)
    assert "leave out --algo" in refused(["export", run, "--algo", "iql"], capsys)
    with pytest.raises(UserError, match="unknown format 'onxx'"):
        romi.export(run, format="onxx")


def test_a_policy_of_the_users_that_torch_cannot_follow_is_refused_in_a_line() -> None:
    def branching(obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        return obs if obs.sum() > 0 else -obs

    policy = SimpleNamespace(acts_with=(), scaler=None, choose_action=branching)
    with pytest.raises(UserError, match="without a branch on their values") as told:
        trace(Deployed(policy, get_task("hopper-medium-v2")), 11)
    assert "\n" not in str(told.value)


def test_an_unfinished_run_is_exported_and_says_so(run: Path) -> None:
    import onnx

    (run / SUMMARY).unlink()
    told = {entry.key: entry.value for entry in onnx.load(romi.export(run)).metadata_props}
    assert (told["status"], told["score"]) == ("unfinished", "null")
