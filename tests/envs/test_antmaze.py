"""AntMaze against D4RL's definitions (Farama-Foundation/D4RL @ 89141a6, d4rl/locomotion)."""

from functools import cache

import numpy as np
import pytest

from offlinerlkit_romi.envs import get_task, make_env, normalized_score, task_names
from offlinerlkit_romi.envs.antmaze import AntMaze
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.mazes import MAZES, WALL
from offlinerlkit_romi.standins.ant import Walker, best_turn, capsized, gait, path_between

ONE_OF_EACH = ("antmaze-umaze-v2", "antmaze-medium-play-v2", "antmaze-large-diverse-v2")


@cache
def shared(name: str) -> AntMaze:
    """One simulator per task for all tests; each resets it."""
    return make_bare_env(name)


def test_the_twelve_tasks_and_their_time_limits() -> None:  # locomotion/__init__.py, register
    names = task_names("d4rl-antmaze")
    assert len(names) == 12
    for name in names:
        task = get_task(name)
        assert task.max_episode_steps == (700 if "umaze" in name else 1000)
        assert (task.obs_dim, task.action_dim, task.ref_min, task.ref_max) == (29, 8, 0.0, 1.0)
        assert task.like == (None if name.endswith("v0") else name[:-1] + "0")


@pytest.mark.parametrize(("name", "walls"), [*zip(ONE_OF_EACH, (18, 38, 62), strict=True)])
def test_walls_stand_where_d4rl_puts_them(name: str, walls: int) -> None:
    # maze_env.py, MazeEnv.__init__: pos = (j * 4 - torso_x, i * 4 - torso_y), size = 4 / 2
    env = shared(name)
    model, rows = env.robotics.ant_env.model, env.maze.rows
    start = next((i, r.index("r")) for i, r in enumerate(rows) if "r" in r)
    expected = {
        (4.0 * (j - start[1]), 4.0 * (i - start[0]))
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
        if cell == WALL
    }
    blocks = [g for g in range(model.ngeom) if model.geom(g).name.startswith("block")]
    found = {tuple((model.geom_pos[g][:2] + env.offset).tolist()) for g in blocks}
    assert found == expected and len(blocks) == walls
    assert all(model.geom_size[g].tolist() == [2.0, 2.0, 1.0] for g in blocks)


def test_the_ant_has_d4rls_time_step_torque_and_contacts() -> None:  # assets/ant.xml; ant.py: 5
    ant = shared("antmaze-umaze-v2").robotics.ant_env
    assert ant.dt == pytest.approx(0.1) and ant.frame_skip == 5
    assert (ant.model.actuator_gear[:, 0] == 30).all()
    assert (ant.model.actuator_ctrlrange == [-1, 1]).all()
    torso = ant.model.geom("torso_geom")
    np.testing.assert_allclose(torso.solref, [0.02, 1])
    np.testing.assert_allclose(torso.solimp[:3], [0.8, 0.8, 0.01])


def test_the_full_action_is_a_torque_of_30_and_beyond_it_nothing_changes() -> None:
    env = make_env("antmaze-umaze-v2")
    env.reset(seed=0)
    env.step(np.full(8, 5.0))  # wrappers.py, NormalizedBoxEnv: clipped to the bounds
    assert (env.unwrapped.robotics.ant_env.data.qfrc_actuator[6:] == 30).all()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_observation_is_positions_and_velocities_in_d4rls_frame(name: str) -> None:
    env = shared(name)  # ant.py, AntEnv._get_obs with expose_all_qpos
    obs, _ = env.reset(seed=3)
    data = env.robotics.ant_env.data
    assert obs.shape == (29,) and (abs(obs[:2]) <= 0.1).all()
    np.testing.assert_array_equal(obs[2:15], data.qpos[2:])
    np.testing.assert_array_equal(obs[15:], data.qvel)
    np.testing.assert_allclose(obs[:2] - env.offset, data.qpos[:2])


def test_the_observation_does_not_show_the_goal() -> None:  # goal_reaching_env.py: eval=True
    env = shared("antmaze-umaze-v2")
    here = env.reset(seed=3, options={"goal": (0.0, 8.0)})[0]
    there = env.reset(seed=3, options={"goal": (1.0, 9.0)})[0]
    np.testing.assert_array_equal(here, there)


def test_starts_scatter_around_the_start_cell_as_in_reset_model() -> None:  # ant.py, reset_model
    env = shared("antmaze-medium-play-v2")
    starts = np.stack([env.reset(seed=seed)[0] for seed in range(200)])
    position = starts[:, :15] - env.robotics.ant_env.model.qpos0 * (np.arange(15) > 1)
    assert (abs(position) <= 0.1).all() and (abs(position).max(axis=0) > 0.08).all()
    assert abs(position).mean() == pytest.approx(0.05, abs=0.003)
    assert starts[:, 15:].std() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize(
    ("maze", "low", "high"),  # goal_sampler of D4RL's maze_env.py
    [
        ("umaze", (0.0, 8.0), (1.5, 9.5)),
        ("medium", (20.0, 20.0), (21.5, 21.5)),
        ("large", (32.0, 24.0), (33.5, 25.5)),
    ],
)
def test_goals_are_a_cells_centre_and_two_uniform_shares(
    maze: str, low: tuple[float, float], high: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    goals = np.stack([MAZES[maze].draw_goal(rng) for _ in range(2000)])
    assert (goals >= low).all() and (goals <= high).all()
    # U(0, 1) + U(0, 0.5): mean 0.75, variance (1 + 0.25) / 12
    np.testing.assert_allclose((goals - low).mean(axis=0), 0.75, atol=0.03)
    np.testing.assert_allclose(goals.std(axis=0), (1.25 / 12) ** 0.5, atol=0.02)


def test_version_2_draws_a_goal_per_episode_and_version_0_per_environment() -> None:
    second = shared("antmaze-umaze-v2")  # ant.py, AntMazeEnv.reset: v2_resets
    goals = [tuple(second.reset(seed=seed)[1]["goal"]) for seed in (0, 1, 0)]
    assert goals[0] == goals[2] != goals[1]
    first = make_bare_env("antmaze-umaze-v0", 7)
    goals = [tuple(first.reset(seed=seed)[1]["goal"]) for seed in (0, 1)]
    assert goals[0] == goals[1] == tuple(MAZES["umaze"].draw_goal(np.random.default_rng(7)))


@pytest.mark.parametrize(("distance", "reached"), [(0.4, True), (0.6, False)])
def test_reward_and_end_come_within_half_a_metre_of_the_goal(
    distance: float, reached: bool
) -> None:
    env = shared("antmaze-umaze-v2")  # goal_reaching_env.py, step: <= 0.5, done there if eval
    goal = np.array([4.0, 0.0])
    env.reset(seed=0, options={"goal": goal, "start": goal})
    env.goal = env._observe()[:2] + np.array([distance, 0.0])
    obs, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert np.linalg.norm(obs[:2] - env.goal) == pytest.approx(distance, abs=0.05)
    assert (reward, terminated, truncated) == (float(reached), reached, False)
    assert info["success"] is reached


def test_a_fall_ends_nothing() -> None:  # goal_reaching_env.py: the ant's own done is discarded
    env = shared("antmaze-umaze-v2")
    env.reset(seed=0)
    ant = env.robotics.ant_env
    qpos = ant.data.qpos.copy()
    qpos[2:7] = [0.15, 0.0, 1.0, 0.0, 0.0]  # on its back, below the ant's healthy 0.2
    ant.set_state(qpos, ant.data.qvel)
    obs, reward, terminated, _, _ = env.step(np.zeros(8))
    assert capsized(obs) and not terminated and reward == 0.0


def test_scores_are_the_success_rate() -> None:
    returns = np.array([0.0, 1.0, 1.0, 0.0])
    assert normalized_score(returns, "antmaze-large-play-v0").mean() == 50.0


def test_the_gait_turns_and_mirrors_with_the_ant() -> None:
    for step in (0, 5):
        np.testing.assert_allclose(gait(step, 4, False), gait(step, 0, False))
        assert not np.allclose(gait(step, 1, False), gait(step, 0, False))
    assert {best_turn(angle) for angle in np.linspace(-3, 3, 100)} == {
        (turns, mirrored) for turns in range(4) for mirrored in (False, True)
    }


def test_a_path_goes_around_the_wall() -> None:
    path = path_between(MAZES["umaze"], (1, 1), (3, 1))
    assert path == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]


def test_the_scripted_ant_reaches_the_goal_in_time() -> None:
    env = shared("antmaze-umaze-v2")
    obs, _ = env.reset(seed=1)
    walker, total = Walker(env.maze, env.goal), 0.0
    for _ in range(700):
        obs, reward, terminated, _, _ = env.step(walker(obs))
        total += reward
        if terminated:
            break
    assert terminated and total == 1.0
