"""The whole path of each family: its own file, training from the script, evaluation, score."""

import json
from pathlib import Path

import numpy as np
import pytest

import offlinerlkit_romi
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.standins.recipes import generate
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.programs import flags, run_program
from tests.support.standins import simulated_here

SCRIPTS = Path(__file__).parents[2] / "run_example"
# rows: enough for a trajectory that arrives at the maze's goal
FAMILIES = {"hopper-medium-v2": 1000, "antmaze-umaze-v2": 450, "Hopper-v3-low": 400}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each family, in its own format, simulated in this process."""
    with pytest.MonkeyPatch.context() as patch, simulated_here():
        patch.setenv("OFFLINERLKIT_ROMI_DATA", str(tmp_path_factory.mktemp("families")))
        return {name: generate(name, rows, 3, progress=False) for name, rows in FAMILIES.items()}


def run_script(algo: str, settings: dict[str, object]) -> None:
    words = flags({name.replace("_", "-"): value for name, value in settings.items()})
    with pytest.raises(SystemExit) as end:
        run_program(SCRIPTS / f"run_{algo}.py", *words)
    assert not end.value.code


@pytest.mark.parametrize("algo", ["romi", "rambo", "iql"])
@pytest.mark.parametrize("task", FAMILIES)
def test_a_family_trains_on_its_own_file_and_is_scored(
    task: str, algo: str, files: dict[str, Path], tmp_path: Path
) -> None:
    chosen = {"task": task, "data": str(files[task]), "log_root": str(tmp_path)}
    settings = TINY_SETTINGS[algo] | chosen | {"epoch": 1, "eval_episodes": 1}
    run_script(algo, settings)
    (run,) = tmp_path.glob(f"{task}/{algo}*/seed_*")
    summary = json.loads((run / "result" / "summary.json").read_text())
    manifest = json.loads((run / "record" / "manifest.json").read_text())
    assert (summary["task"], summary["data_source"]) == (task, "file")
    assert np.isfinite([summary["score_last"], summary["score_behaviour"]]).all()
    assert manifest["data"]["obs_dim"] == get_task(task).obs_dim
    assert (manifest["data"]["goal"] is not None) == task.startswith("antmaze")
    again = offlinerlkit_romi.evaluate(run, episodes=1)
    assert np.isfinite(again.score) and again.episode_length <= get_task(task).max_episode_steps


def test_the_maze_files_own_score_is_a_success_rate(files: dict[str, Path]) -> None:
    found = offlinerlkit_romi.data.load("antmaze-umaze-v2", str(files["antmaze-umaze-v2"]))
    assert found.info.behaviour_return == 1.0 and found.rewards.sum() > 1


def test_a_models_rollouts_end_at_the_goal_of_its_data(
    files: dict[str, Path], tmp_path: Path
) -> None:
    task = "antmaze-umaze-v2"
    settings = TINY_SETTINGS["rambo"] | {"epoch": 1, "eval_episodes": 0, "log_root": str(tmp_path)}
    summary = offlinerlkit_romi.train(
        "rambo", **settings | {"task": task, "data": str(files[task])}
    )
    goal = offlinerlkit_romi.data.load(task, str(files[task])).info.goal
    policy = offlinerlkit_romi.load_policy(summary.run_dir)
    raw = np.zeros((2, 29), np.float32)
    raw[0, :2] = goal
    scaler = policy.scaler
    states = (raw - scaler.mu) / scaler.std
    ended = policy.dynamics.terminal_fn(states, np.zeros((2, 8)), states)
    assert ended[:, 0].tolist() == [True, False]
