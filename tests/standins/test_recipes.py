"""Generated data sets: D4RL's composition and format, reproducible bytes, honest labels."""

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from offlinerlkit_romi import data
from offlinerlkit_romi.data.benchmarks import ORIGINS
from offlinerlkit_romi.envs.tasks import get_task, task_names
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins import recipes as generation
from offlinerlkit_romi.standins.recipes import (
    BEHAVIOUR_FOLDER,
    RECIPES,
    ROLES,
    Part,
    actor_of,
    composition,
    generate,
    generated_path,
)
from offlinerlkit_romi.standins.simulate import Lanes, Shard
from offlinerlkit_romi.standins.worker import run_shard, run_shards
from tests.support.stopping import before

KEYS = {
    "observations",
    "actions",
    "next_observations",
    "rewards",
    "terminals",
    "timeouts",
    "infos/qpos",
    "infos/qvel",
    "infos/action_log_probs",
}


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {key: file[key][()] for key in KEYS}


@pytest.mark.parametrize("task", ["hopper-random-v2", "walker2d-medium-expert-v2"])
def test_same_seed_gives_the_same_bytes_on_any_number_of_cores(
    small_shards: None, task: str
) -> None:
    one = generate(task, 1000, jobs=1, progress=False).read_bytes()
    two = generate(task, 1000, jobs=2, progress=False, force=True).read_bytes()
    other = generate(task, 1000, seed=1, progress=False).read_bytes()
    assert one == two != other


def test_file_has_d4rls_keys_exact_rows_and_says_that_it_is_generated() -> None:
    path = generate("hopper-medium-replay-v2", 700, seed=5, progress=False)
    arrays = arrays_of(path)
    assert {len(value) for value in arrays.values()} == {700}
    assert arrays["observations"].dtype == arrays["infos/qpos"].dtype == np.float32
    assert arrays["terminals"].dtype == bool and arrays["infos/qvel"].shape == (700, 6)
    with h5py.File(path) as file:
        said = {key: value[()].decode() for key, value in file["metadata"].items()}
    assert "not a D4RL file" in said["generated"] and said["seed"] == "5"
    assert said["env_id"] == "Hopper-v4" and said["mujoco"] and said["gymnasium"]
    assert path.name.startswith("generated-") and path.parent == generation.generated_folder()
    info = data.load("hopper-medium-replay-v2", "generated", transitions=700, seed=5).info
    assert info.source == "generated" and said["mujoco"] in info.env_version
    assert "hopper-0060k" in info.notes[1] and "seed 5" in info.notes[1]


def test_next_observations_never_come_from_another_episode(small_shards: None) -> None:
    arrays = arrays_of(generate("hopper-medium-expert-v2", 3000, progress=False))
    ends = arrays["terminals"] | arrays["timeouts"]
    same = np.all(arrays["next_observations"][:-1] == arrays["observations"][1:], axis=1)
    assert np.array_equal(same, ~ends[:-1])
    assert ends[1499]  # the border of the two policies, cut or not


@pytest.mark.parametrize("environment", ROLES)
def test_stored_states_replay_to_the_stored_next_observations(environment: str) -> None:
    arrays = arrays_of(generate(f"{environment}-random-v2", 60, progress=False))
    lanes = Lanes(environment, 1)
    for row in range(60):
        lanes.reset(0, np.random.default_rng(0))
        state = lanes.states[0]
        state.qpos[:], state.qvel[:] = arrays["infos/qpos"][row], arrays["infos/qvel"][row]
        lanes.qpos[0], lanes.qvel[0] = state.qpos, state.qvel
        reward, _ = lanes.step(arrays["actions"][row : row + 1], np.arange(1))
        # float32 states and a cold contact solver: close, not equal
        np.testing.assert_allclose(lanes.observe()[0], arrays["next_observations"][row], atol=0.02)
        assert reward[0] == pytest.approx(arrays["rewards"][row], abs=0.02)


def test_every_benchmark_has_a_recipe() -> None:
    assert set(RECIPES) == set(ORIGINS) == {get_task(task).family for task in task_names()}


def test_composition_is_the_documented_one() -> None:
    assert composition("hopper-random-v2", 10) == [Part("random", 10)]
    assert composition("walker2d-medium-v2", 10) == [Part("walker2d-0260k", 10)]
    assert composition("hopper-expert-v2", 10) == [Part("hopper-0280k", 10)]
    halves = composition("halfcheetah-medium-expert-v2", 11)
    assert halves == [Part("halfcheetah-0140k", 6), Part("halfcheetah-0840k", 5)]
    replay = composition("hopper-medium-replay-v2", 1800)
    assert [part.rows for part in replay] == [200, 400, 400, 200, 200, 400]
    for task in task_names("d4rl-mujoco"):
        assert sum(part.rows for part in composition(task, 12345)) == 12345


def test_every_policy_that_is_named_ships_with_its_measured_return() -> None:
    measured = json.loads((BEHAVIOUR_FOLDER / "returns.json").read_text())["policies"]
    shipped = {path.stem for path in BEHAVIOUR_FOLDER.glob("*.npz")}
    d4rl, neorl = task_names("d4rl-mujoco"), task_names("neorl")
    named = {part.actor for task in d4rl for part in composition(task, 10**6)}
    named |= {actor_of(task)[1] for task in neorl}
    assert named - {"random"} == shipped == set(measured)
    assert all(path.stat().st_size < 2e6 for path in BEHAVIOUR_FOLDER.iterdir())


@pytest.mark.parametrize(
    ("policy", "rows"),
    [("hopper-0180k", 6000), ("halfcheetah-0140k", 5000), ("walker2d-0260k", 8000)],
)
def test_medium_policies_earn_what_returns_json_says(policy: str, rows: int) -> None:
    expected = json.loads((BEHAVIOUR_FOLDER / "returns.json").read_text())["policies"][policy]
    path = str(BEHAVIOUR_FOLDER / f"{policy}.npz")
    got = run_shard(Shard(policy.split("-")[0], path, rows, (0,)))
    count = int((got["terminals"] | got["timeouts"]).sum())
    mean, std = expected["stochastic"]["mean"], expected["stochastic"]["std"]
    error = std * (1 / 10 + 1 / count) ** 0.5  # returns.json: 10 episodes
    assert got["rewards"].sum() / count == pytest.approx(mean, abs=4 * error)


def test_random_actions_earn_what_a_random_policy_is_known_to_earn() -> None:
    for environment, expected, slack in (("hopper", 19.9, 3.0), ("walker2d", 2.6, 1.5)):
        got = run_shard(Shard(environment, "random", 4000, (0,)))
        assert got["rewards"].sum() / got["terminals"].sum() == pytest.approx(expected, abs=slack)
    got = run_shard(Shard("halfcheetah", "random", 4000, (0,)))
    assert got["rewards"].sum() / 4 == pytest.approx(-276, abs=60)
    assert -1 <= got["actions"].min() < -0.99 and 0.99 < got["actions"].max() <= 1


def test_behaviour_return_is_the_mean_of_complete_episodes() -> None:
    loaded = data.load("hopper-random-v2", "generated", transitions=500, progress=False)
    returns, running = [], 0.0
    for reward, terminal in zip(loaded.rewards[:, 0], loaded.terminals[:, 0], strict=True):
        running += float(reward)
        if terminal:
            returns.append(running)
            running = 0.0
    assert loaded.info.episodes == len(returns)
    assert loaded.info.behaviour_return == pytest.approx(np.mean(returns))


def test_cached_file_is_not_simulated_again() -> None:
    path = generate("hopper-random-v2", 20, progress=False)
    made = path.stat().st_mtime_ns
    assert generate("hopper-random-v2", 20, progress=False) == path
    assert path.stat().st_mtime_ns == made
    assert generate("hopper-random-v2", 20, progress=False, force=True) == path
    assert path.stat().st_mtime_ns > made


def test_progress_is_shown_unless_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    generate("hopper-random-v2", 20)
    assert "simulating hopper-random-v2" in capsys.readouterr().err
    generate("hopper-random-v2", 21, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("transitions", "seed"), [(0, 0), (-5, 0), (10, -1)])
def test_impossible_numbers_are_refused(transitions: int, seed: int) -> None:
    with pytest.raises(UserError, match="cannot generate"):
        generate("hopper-random-v2", transitions, seed)


def test_full_disk_leaves_nothing_behind() -> None:
    def full(group: Any, name: str, *_: Any, **__: Any) -> None:
        if name == "rewards":
            raise OSError(
                "Can't write data (errno = 28, error message = 'No space left on device')"
            )

    told = pytest.raises(UserError, match=r"no space left on the disk .*OFFLINERLKIT_ROMI_DATA")
    with before(h5py.Group, "create_dataset", full), told:
        generate("hopper-random-v2", 20, progress=False)
    folder = generation.generated_folder()
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] == []


def test_dead_worker_is_reported_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard("hopper", "no-such-policy.npz", 10, (0,))] * 3
    with pytest.raises(RuntimeError, match=r"worker died: .*no-such-policy.npz"):
        run_shards(shards, 2, lambda rows: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"):
        run_shards(shards, 1, lambda rows: None)
    assert not generated_path("hopper-random-v2", 10, 0).exists()


def test_worker_needs_no_guard_in_the_callers_script(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "from offlinerlkit_romi import data\n"
        "print(data.load('hopper-random-v2', 'generated', transitions=30, progress=False))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.count("Dataset(") == 1
