"""D4RL's AntMaze on gymnasium-robotics: its ant, maze frame, goal, reward and observation.

Facts are those of Farama-Foundation/D4RL @ 89141a6, d4rl/locomotion (ant.py, maze_env.py,
goal_reaching_env.py, assets/ant.xml). gymnasium-robotics has the same walls, but an ant five times
as strong at half the time step, another origin with the rows mirrored, random starts, goals in any
cell, a goal radius of 0.45, and by default an episode that goes on at the goal.
"""

import os
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from offlinerlkit_romi.envs.mazes import GOAL_RADIUS, Maze, maze_of
from offlinerlkit_romi.envs.tasks import Task

Array = NDArray[np.float64]
START_NOISE = 0.1  # uniform on every position, times a normal on every velocity
TORQUE = 30.0
TIME_STEP = 0.02
CONTACTS = {"solref": ".02 1", "solimp": ".8 .8 .01"}


class AntMaze(gymnasium.Env[Any, Any]):
    """One of D4RL's mazes, without a time limit.

    Version 2 draws a goal at every reset, version 0 once per environment (`Task.name` tells).
    D4RL draws them from numpy's global generator; here they come from the seed.

    Attributes:
        goal: (2,) in D4RL's frame, whose origin is the start cell's centre.

    Args:
        task: An antmaze task.
        seed: Of the goal that version 0 keeps.
        render_mode: Gymnasium's.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's way)

    def __init__(self, task: Task, seed: int = 0, render_mode: str | None = None):
        self.maze = maze_of(task)
        self.resamples_goal = task.name.endswith("-v2")
        self.robotics = _make_robotics(self.maze, render_mode)
        self.offset = self.maze.offset
        self.observation_space = spaces.Box(-np.inf, np.inf, (task.obs_dim,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)
        self.goal = self.maze.draw_goal(np.random.default_rng(seed))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode: `options` may hold a `goal` and a `start`, (2,) each in D4RL's frame.

        Returns:
            Observation (29,) and info with the goal.
        """
        super().reset(seed=seed)
        options, rng = options or {}, self.np_random
        if self.resamples_goal:
            self.goal = self.maze.draw_goal(rng)
        if "goal" in options:
            self.goal = np.asarray(options["goal"], np.float64)
        self.robotics.reset(seed=seed)
        self.robotics.goal = self.goal - self.offset
        ant = self.robotics.ant_env
        qpos = ant.model.qpos0 + rng.uniform(-START_NOISE, START_NOISE, ant.model.nq)
        qpos[:2] += np.asarray(options.get("start", (0.0, 0.0))) - self.offset
        ant.set_state(qpos, START_NOISE * rng.standard_normal(ant.model.nv))
        return self._observe(), {"goal": self.goal.copy()}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take one step of 0.1 s; the episode ends at the goal, a fall does not end it."""
        self.robotics.step(action)
        obs = self._observe()
        success = bool(np.linalg.norm(obs[:2] - self.goal) <= GOAL_RADIUS)
        return obs, float(success), success, False, {"goal": self.goal.copy(), "success": success}

    def render(self) -> Any:
        """The picture that `render_mode` asks for."""
        return self.robotics.render()

    def close(self) -> None:
        """Close the simulator."""
        self.robotics.close()

    def _observe(self) -> Array:
        """Positions and velocities (29,), x and y in D4RL's frame; the goal does not show."""
        data = self.robotics.ant_env.data
        obs = np.concatenate([data.qpos, data.qvel])
        obs[:2] += self.offset
        return obs


def _make_robotics(maze: Maze, render_mode: str | None = None) -> Any:
    from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "ant.xml"
        _write_ant(model)
        env = AntMazeEnv(
            # robotics' y falls with the row, D4RL's grows: reversed rows leave a translation
            maze_map=[list(row) for row in reversed(maze.rows)],
            continuing_task=False,
            reset_target=False,
            include_cfrc_ext_in_observation=False,
            xml_file=str(model),
            render_mode=render_mode,
        )
    os.unlink(env.tmp_xml_file_path)  # it leaves its maze behind
    return env


def _write_ant(path: Path) -> None:
    """Gymnasium's ant with D4RL's time step, torque and contacts."""
    import gymnasium.envs.mujoco as mujoco_envs

    tree = ET.parse(Path(mujoco_envs.__file__).parent / "assets" / "ant.xml")
    option, geom = tree.find("option"), tree.find("default/geom")
    assert option is not None and geom is not None
    option.set("timestep", str(TIME_STEP))
    geom.attrib.update(CONTACTS)
    for motor in tree.iter("motor"):
        motor.set("gear", str(TORQUE))
    tree.write(path)
