"""Collect episodes from many copies of one gymnasium `-v4` simulator, one actor call per step.

gymnasium's own step spends more time in Python than in MuJoCo. Here MuJoCo is called directly and
observations, rewards and terminations are computed for all copies at once; a test holds every
number bit-equal to gymnasium's.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.tasks import MAX_EPISODE_STEPS
from offlinerlkit_romi.standins.policies import Actor

Array = NDArray[Any]


@dataclass(frozen=True)
class SimulatorSpec:
    """What gymnasium's `-v4` classes add to the MuJoCo model."""

    env_id: str
    control_cost: float
    healthy_reward: float
    healthy_z: tuple[float, float]
    healthy_angle: tuple[float, float]
    healthy_state: tuple[float, float]
    reset_noise: float
    gaussian_velocity_reset: bool
    clip_velocity: float


_ANY = (-np.inf, np.inf)
SPECS = {
    "halfcheetah": SimulatorSpec(
        "HalfCheetah-v4", 0.1, 0.0, _ANY, _ANY, _ANY, 0.1, True, float("inf")
    ),
    "hopper": SimulatorSpec(
        "Hopper-v4", 1e-3, 1.0, (0.7, np.inf), (-0.2, 0.2), (-100.0, 100.0), 5e-3, False, 10.0
    ),
    "walker2d": SimulatorSpec(
        "Walker2d-v4", 1e-3, 1.0, (0.8, 2.0), (-1.0, 1.0), _ANY, 5e-3, False, 10.0
    ),
}


@dataclass(frozen=True)
class Shard:
    """One independent piece of work: its result depends on these fields and on nothing else.

    Attributes:
        environment: Which simulator, a key of `SPECS`, or an AntMaze task.
        actor: Which policy, see `policies.load_actor`.
        rows: Transitions at least.
        seed: Of everything drawn.
        with_position: Observe the x position too (the policy does not see it).
        mean_share: Share of the steps at which the policy's mean action is taken.
    """

    environment: str
    actor: str
    rows: int
    seed: tuple[int, ...]
    with_position: bool = False
    mean_share: float = 0.0


class Lanes:
    """`count` copies of one simulator sharing a model; states are float64 rows `qpos`, `qvel`.

    `with_position` puts the x position in front of the observation, as NeoRL has it.
    """

    def __init__(self, environment: str, count: int, with_position: bool = False) -> None:
        import gymnasium
        import mujoco

        self.spec = SPECS[environment]
        self.hidden = 0 if with_position else 1  # leading positions that are not observed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "-v4 is out of date": it is the one D4RL matches
            env: Any = gymnasium.make(self.spec.env_id).unwrapped
        self._mujoco = mujoco
        self.model, self.frame_skip, self.dt = env.model, env.frame_skip, env.dt
        # one robot is one island, nothing senses, geoms are few: same bits, a tenth less work
        for name in ("mjDSBL_ISLAND", "mjDSBL_SENSOR", "mjDSBL_MIDPHASE"):
            flag = getattr(mujoco.mjtDisableBit, name, 0)  # older mujoco has no islands
            self.model.opt.disableflags |= int(flag)
        self.init_qpos, self.init_qvel = env.init_qpos.copy(), env.init_qvel.copy()
        self.action_dim = int(self.model.nu)
        self.states = [mujoco.MjData(self.model) for _ in range(count)]
        self._qpos_views = [state.qpos for state in self.states]
        self._qvel_views = [state.qvel for state in self.states]
        self._control_views = [state.ctrl for state in self.states]
        self.qpos = np.zeros((count, self.model.nq))
        self.qvel = np.zeros((count, self.model.nv))

    def reset(self, lane: int, rng: np.random.Generator) -> None:
        """Start an episode in `lane`: the simulator's own initial distribution."""
        noise, state = self.spec.reset_noise, self.states[lane]
        self._mujoco.mj_resetData(self.model, state)
        state.qpos[:] = self.init_qpos + rng.uniform(-noise, noise, size=self.model.nq)
        if self.spec.gaussian_velocity_reset:
            state.qvel[:] = self.init_qvel + noise * rng.standard_normal(self.model.nv)
        else:
            state.qvel[:] = self.init_qvel + rng.uniform(-noise, noise, size=self.model.nv)
        self._mujoco.mj_forward(self.model, state)
        self._read(lane)

    def observe(self) -> Array:
        """Observations (L, S), float64: positions, x or not, then velocities."""
        bound = self.spec.clip_velocity
        return np.concatenate(
            [self.qpos[:, self.hidden :], np.clip(self.qvel, -bound, bound)], axis=1
        )

    def step(self, action: Array, running: Array) -> tuple[Array, Array]:
        """Apply `action` (L, A) to the lanes listed in `running`.

        Returns:
            rewards (L,) float64 and terminals (L,) bool; rows that do not run mean nothing.
        """
        x_before = self.qpos[:, 0].copy()
        mj_step, model, skip = self._mujoco.mj_step, self.model, self.frame_skip
        for lane in running.tolist():
            self._control_views[lane][:] = action[lane]
            mj_step(model, self.states[lane], nstep=skip)
            self._read(lane)
        forward = (self.qpos[:, 0] - x_before) / self.dt
        cost = self.spec.control_cost * np.sum(np.square(action), axis=1)
        return forward + self.spec.healthy_reward - cost, ~self._healthy()

    def _read(self, lane: int) -> None:
        self.qpos[lane] = self._qpos_views[lane]
        self.qvel[lane] = self._qvel_views[lane]

    def _healthy(self) -> Array:
        spec, z, angle = self.spec, self.qpos[:, 1], self.qpos[:, 2]
        healthy = (spec.healthy_z[0] < z) & (z < spec.healthy_z[1])
        healthy &= (spec.healthy_angle[0] < angle) & (angle < spec.healthy_angle[1])
        low, high = spec.healthy_state
        for part in (self.qpos[:, 2:], self.qvel):
            healthy &= np.all((low < part) & (part < high), axis=1)
        return healthy


@dataclass
class _Episodes:
    """Which episode each lane plays, and how far every episode has come."""

    wanted: int
    lanes: int
    of_lane: Array = field(init=False)
    lengths: list[int] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.of_lane = np.full(self.lanes, -1)

    def expected_rows(self) -> float:
        """Rows of all episodes begun, if those still running become of average length."""
        done = [n for n, over in zip(self.lengths, self.finished, strict=True) if over]
        average = sum(done) / len(done) if done else 0.0
        running = [n for n, over in zip(self.lengths, self.finished, strict=True) if not over]
        return sum(done) + sum(max(average, n) for n in running)

    def start(self, lane: int) -> bool:
        """Give `lane` the next episode, unless those begun will probably hold all rows wanted."""
        if self.expected_rows() >= self.wanted:
            return False
        self.of_lane[lane] = len(self.lengths)
        self.lengths.append(0)
        self.finished.append(False)
        return True

    def enough(self) -> int:
        """How many leading, finished episodes hold all rows wanted; 0 while they do not yet."""
        rows = 0
        for count, (length, finished) in enumerate(zip(self.lengths, self.finished, strict=True)):
            if not finished:
                return 0
            rows += length
            if rows >= self.wanted:
                return count + 1
        return 0


def lane_count(rows: int) -> int:
    """Copies that collect `rows` transitions without much idle or surplus work."""
    return -(-rows // MAX_EPISODE_STEPS)


def collect(
    lanes: Lanes,
    actor: Actor,
    rows: int,
    rng: np.random.Generator,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Array]:
    """Whole episodes with at least `rows` transitions (the last one crosses), under D4RL's keys.

    Episodes are numbered in the order they begin and stored in that order, so short episodes are
    not over-represented however many lanes run. `on_progress` hears the rows done so far.
    """
    count = len(lanes.states)
    episodes = _Episodes(wanted=rows, lanes=count)
    _fill(lanes, episodes, rng)
    steps: list[dict[str, Array]] = []
    while not episodes.enough():
        steps.append(_advance(lanes, actor, episodes, rng))
        if on_progress is not None:
            on_progress(min(rows, sum(episodes.lengths)))
    return _in_episode_order(steps, episodes.enough())


def _fill(lanes: Lanes, episodes: _Episodes, rng: np.random.Generator) -> None:
    """Begin episodes in idle lanes while more are needed."""
    for lane in np.flatnonzero(episodes.of_lane < 0).tolist():
        if not episodes.start(lane):
            return
        lanes.reset(lane, rng)


def _advance(
    lanes: Lanes, actor: Actor, episodes: _Episodes, rng: np.random.Generator
) -> dict[str, Array]:
    running = np.flatnonzero(episodes.of_lane >= 0)
    episode = episodes.of_lane.copy()
    obs, qpos, qvel = lanes.observe().astype(np.float32), lanes.qpos.copy(), lanes.qvel.copy()
    action, log_prob = actor(obs[:, 1 - lanes.hidden :], rng)  # policies never see x
    reward, terminal = lanes.step(action, running)
    next_obs = lanes.observe().astype(np.float32)
    timeout = np.zeros(len(episode), dtype=bool)
    for lane in running.tolist():
        number = episode[lane]
        episodes.lengths[number] += 1
        timeout[lane] = episodes.lengths[number] == MAX_EPISODE_STEPS and not terminal[lane]
        if terminal[lane] or timeout[lane]:
            episodes.finished[number] = True
            episodes.of_lane[lane] = -1
    if (terminal | timeout)[running].any():
        _fill(lanes, episodes, rng)
    return {
        "episode": episode,
        "observations": obs,
        "actions": action,
        "next_observations": next_obs,
        "rewards": reward.astype(np.float32),
        "terminals": terminal,
        "timeouts": timeout,
        "infos/qpos": qpos.astype(np.float32),
        "infos/qvel": qvel.astype(np.float32),
        "infos/action_log_probs": log_prob,
    }


def _in_episode_order(steps: list[dict[str, Array]], episodes: int) -> dict[str, Array]:
    """Time-major records to the rows of the first `episodes` episodes, episode by episode."""
    stacked = {key: np.concatenate([step[key] for step in steps]) for key in steps[0]}
    episode = stacked.pop("episode")  # (T*L,), -1 where a lane was idle
    order = np.argsort(episode, kind="stable")
    wanted = (episode[order] >= 0) & (episode[order] < episodes)
    return {key: value[order[wanted]] for key, value in stacked.items()}
