"""AntMaze files: true next rows, the rewards' goal, success rates, downloads, stand-ins."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from offlinerlkit_romi import data
from offlinerlkit_romi.data import d4rl_antmaze
from offlinerlkit_romi.data.archive import D4RL_ANTMAZE
from offlinerlkit_romi.data.download import is_digest
from offlinerlkit_romi.envs.tasks import task_names
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.recipes import generate
from tests.support.data import write_hdf5
from tests.support.standins import simulated_here

TASK = "antmaze-umaze-v2"
GOAL = (0.5, 8.5)
KEYS = {"observations", "actions", "rewards", "terminals", "timeouts"}
INFOS = {"infos/goal", "infos/qpos", "infos/qvel"}


def maze_rows(timeouts: tuple[int, ...] = (9, 19), **changes: Any) -> dict[str, np.ndarray]:
    """Two trajectories of ten rows that walk to the goal from below; relabelled as D4RL's are."""
    rng = np.random.default_rng(0)
    obs = rng.normal(0, 0.1, (20, 29)).astype(np.float32)
    obs[:, 0] = GOAL[0]
    obs[:10, 1] = np.linspace(5.8, 8.5, 10)  # 0.3 per step; rows 8 and 9 are at the goal
    obs[10:, 1] = np.linspace(0.0, 2.7, 10)
    reached = np.hypot(obs[:, 0] - GOAL[0], obs[:, 1] - GOAL[1]) <= 0.5
    rewards = np.r_[reached[1:], False].astype(np.float32)
    arrays: dict[str, Any] = {
        "observations": obs,
        "actions": np.tanh(rng.standard_normal((20, 8))).astype(np.float32),
        "rewards": rewards,
        "terminals": rewards,  # floats, as in D4RL's files
        "timeouts": np.isin(np.arange(20), timeouts),
        "infos/goal": np.tile(np.float32(GOAL), (20, 1)),
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def load(tmp_path: Path, arrays: dict[str, np.ndarray], task: str = TASK) -> data.Dataset:
    return data.load(task, str(write_hdf5(tmp_path / "maze.hdf5", arrays)))


def test_sparse_rewards_are_kept_and_followed_by_their_own_next_row(tmp_path: Path) -> None:
    arrays = maze_rows()
    found = load(tmp_path, arrays)
    assert found.rewards.sum() == arrays["rewards"].sum() == 2
    rewarded = np.flatnonzero(found.rewards[:, 0])
    assert found.terminals[rewarded].all() and found.terminals.sum() == 2
    np.testing.assert_array_equal(found.next_observations[:9], arrays["observations"][1:10])
    assert found.model_rows is not None and found.model_rows.all()
    assert found.observations.shape == (18, 29)  # each trajectory's last row has no next one


def test_a_terminal_at_a_trajectorys_end_stays_for_the_critic_alone(tmp_path: Path) -> None:
    arrays = maze_rows(timeouts=(7, 19))
    arrays["observations"][8:10] = arrays["observations"][10]  # the second starts at row 8
    found = load(tmp_path, arrays)
    row = int(np.flatnonzero((found.observations == arrays["observations"][7]).all(1))[0])
    assert found.rewards[row] == 1 and found.terminals[row] and not found.model_rows[row]
    np.testing.assert_array_equal(found.next_observations[row], found.observations[row])


def test_a_jump_without_a_time_limit_ends_a_trajectory(tmp_path: Path) -> None:
    arrays = maze_rows(timeouts=(19,))
    found = load(tmp_path, arrays)
    assert len(found) == 18 and found.info.episodes == 2
    assert any("1 jumps of the position" in note for note in found.info.notes)
    moved = np.linalg.norm((found.next_observations - found.observations)[:, :2], axis=1)
    assert moved.max() < 0.5


def test_version_0s_time_limits_are_not_believed(tmp_path: Path) -> None:
    found = load(tmp_path, maze_rows(timeouts=(4, 14)), "antmaze-umaze-v0")
    assert found.info.episodes == 1 and found.info.behaviour_return == 1.0  # the second is open
    assert any("D4RL issue 77" in note for note in found.info.notes)
    moved = np.linalg.norm((found.next_observations - found.observations)[:, :2], axis=1)
    assert moved.max() < 0.5


def test_the_behaviour_score_is_the_share_of_trajectories_that_arrive(tmp_path: Path) -> None:
    assert load(tmp_path, maze_rows()).info.behaviour_return == 0.5  # not the 2 rewarded rows


def test_the_goal_is_the_files_own_where_it_explains_the_rewards(tmp_path: Path) -> None:
    assert load(tmp_path, maze_rows()).info.goal == pytest.approx(GOAL)


@pytest.mark.parametrize("goals", [None, np.tile(np.float32((9, 9)), (20, 1))])
def test_a_goal_that_is_not_told_is_found_from_the_rewarded_rows(
    tmp_path: Path, goals: np.ndarray | None
) -> None:
    info = load(tmp_path, maze_rows(**{"infos/goal": goals})).info
    assert info.goal is not None and np.hypot(*np.subtract(info.goal, GOAL)) < 0.5
    assert "model rollouts end there" in info.notes[-1]


def test_rewards_of_several_goals_give_none(tmp_path: Path) -> None:
    arrays = maze_rows()
    arrays["rewards"][13] = 1
    info = load(tmp_path, arrays).info
    assert info.goal is None and "no single goal" in info.notes[-1]


def test_the_circle_around_rewarded_rows_is_nearly_the_smallest() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 300)  # half a disc: its box's middle is no centre
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.5 + [3.0, 4.0]
    found = d4rl_antmaze._middle(points)
    assert np.linalg.norm(points - found, axis=1).max() < 0.505


def test_a_goal_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"infos/goal has shape \(20, 3\)"):
        load(tmp_path, maze_rows(**{"infos/goal": np.zeros((20, 3))}))


def test_the_registry_covers_every_maze_and_says_what_it_cannot_verify() -> None:
    for name in task_names("d4rl-antmaze"):
        remote = D4RL_ANTMAZE.remote_of(name)
        folder = "ant_maze_new" if name.endswith("v0") else "ant_maze_v2"
        base = f"http://rail.eecs.berkeley.edu/datasets/offline_rl/{folder}/Ant_maze_"
        assert remote.url.startswith(base) and remote.size is not None and remote.size > 2e8
        assert remote.url.endswith("_sparse_fixed.hdf5") == name.endswith("v2")
        whole = "medium-play-v2" not in name
        assert (len(remote.digest) == 64) == whole
        assert ("only both ends" in D4RL_ANTMAZE.verified(name)) == (not whole)


def test_a_digest_of_which_only_the_ends_are_known_is_compared_at_both() -> None:
    assert is_digest("abc123def", "abc...def") and is_digest("abc", "abc")
    assert not is_digest("abc123xef", "abc...def") and not is_digest("abd123def", "abc...def")
    assert not is_digest("abcd", "abc")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch, simulated_here():
        patch.setenv("OFFLINERLKIT_ROMI_DATA", str(tmp_path_factory.mktemp("made")))
        path = generate(TASK, 450, 3, jobs=1, progress=False)
        found = data.load(TASK, "generated", transitions=450, seed=3, progress=False)
        assert "scripted gait" in found.info.notes[1] and "not a D4RL file" in found.info.notes[0]
        assert "AntMaze_UMaze-v5" in found.info.env_version
    with h5py.File(path) as file:
        return {key: file[key][()] for key in KEYS | INFOS}


def test_a_made_file_has_d4rls_keys_and_its_rewards_are_the_next_rows(
    made: dict[str, np.ndarray],
) -> None:
    assert {len(value) for value in made.values()} == {450}
    goal = made["infos/goal"][0]
    near = np.linalg.norm(made["observations"][1:, :2] - goal, axis=1) <= 0.5
    inside = ~made["timeouts"][:-1]
    np.testing.assert_array_equal(made["rewards"][:-1][inside], near[inside])
    np.testing.assert_array_equal(made["terminals"], made["rewards"] > 0)
    assert 0 < made["rewards"].sum() < 450 and made["timeouts"][-1]
    assert (made["infos/qpos"] == made["observations"][:, :15]).all()


def test_a_made_file_replays_in_the_simulator(made: dict[str, np.ndarray]) -> None:
    from offlinerlkit_romi.envs.make import make_bare_env

    env = make_bare_env(TASK)
    env.reset(seed=0)
    for row in range(100, 130):
        qpos, qvel = made["infos/qpos"][row].astype(float), made["infos/qvel"][row].astype(float)
        qpos[:2] -= env.offset
        env.robotics.ant_env.set_state(qpos, qvel)
        following = env.step(made["actions"][row].astype(float))[0]
        # float32 states and a cold contact solver: close, not equal
        np.testing.assert_allclose(following, made["observations"][row + 1], atol=0.2)


def test_other_mazes_start_anywhere_and_change_targets() -> None:
    from offlinerlkit_romi.standins.ant import collect_maze
    from offlinerlkit_romi.standins.simulate import Shard

    found = collect_maze(Shard("antmaze-umaze-diverse-v2", "", 250, (0, 0)))
    targets = np.unique(found["infos/goal"], axis=0)
    assert len(found["rewards"]) == 250 and len(targets) >= 1
    again = collect_maze(Shard("antmaze-umaze-diverse-v2", "", 250, (0, 0)))
    np.testing.assert_array_equal(found["observations"], again["observations"])
    other = collect_maze(Shard("antmaze-umaze-diverse-v2", "", 20, (0, 1)))
    assert np.linalg.norm(other["observations"][0, :2] - found["observations"][0, :2]) > 1
