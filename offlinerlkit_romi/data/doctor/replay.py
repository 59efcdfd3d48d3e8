"""Is the simulator that evaluates the one that made the data? Replays stored actions in it."""

from typing import Any

import numpy as np

from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.doctor.starts import (
    CLIPPED_VELOCITY,
    MAZE_RULE,
    rule_name,
    simulator_of,
)
from offlinerlkit_romi.data.rows import Array, Rows

SAMPLE_ROWS = 500
TOLERANCE = 0.01  # of the typical change in one step
REWARD_TOLERANCE = 0.01  # of the rewards' spread
MAZE_POSITIONS = 15  # of the ant's 29 numbers
SHARE = 0.05  # contacts amplify the rounding of a stored state in a few rows


def check_replay(records: Rows, rows: int = SAMPLE_ROWS, seed: int = 0) -> Finding | None:
    """Put a sample of stored states into the task's simulator and take the stored actions.

    States come from `infos/qpos` and `infos/qvel` where they are stored, else from the
    observations, which hold everything but the root's x; rows with clipped velocities are left out.

    Returns:
        A finding if more than 5 % of the sample, drawn with `seed`, end elsewhere or earn another
        reward; None otherwise, or for tasks whose simulator takes no states.
    """
    if simulator_of(records) is None and not _is_maze(records):
        return None
    chosen = _sample(records, rows, seed)
    if not len(chosen):
        return None
    states, rewards = _simulate(records, chosen)
    stored = records.following(chosen).astype(np.float64)
    typical = np.abs(stored - records.observations[chosen]).mean(axis=0) + 1e-8
    moved = (np.abs(states - stored) / typical).max(axis=1) > TOLERANCE
    given = records.rewards[chosen].astype(np.float64)
    paid = np.abs(rewards - given) > REWARD_TOLERANCE * (given.std() + 1e-8)
    paid &= not _is_maze(records)  # there the goal is drawn anew
    for name, wrong in (("next state", moved), ("reward", paid)):
        if wrong.mean() > SHARE:
            return Finding(
                "another-simulator",
                "warning",
                chosen[wrong],
                f"of {len(chosen)} replayed ones get another {name} in the evaluation's simulator",
                "evaluate in the simulator that made the data: compare mujoco and gymnasium "
                "versions, and the reward's definition",
            )
    return None


def _sample(records: Rows, rows: int, seed: int) -> Array:
    usable = np.arange(len(records))
    if records.next_observations is None:
        usable = np.flatnonzero(~records.ends[:-1])
    rng = np.random.default_rng(seed)
    drawn = usable if len(usable) <= 2 * rows else rng.choice(usable, 2 * rows, replace=False)
    columns = [records.actions[drawn], records.following(drawn), records.observations[drawn]]
    fine = np.all([np.isfinite(column).all(axis=1) for column in columns], axis=0)
    simulator = simulator_of(records)
    if not _stored(records) and simulator is not None:
        limit = CLIPPED_VELOCITY if rule_name(records) != "halfcheetah" else np.inf
        velocities = len(simulator.positions) + 1
        fine &= (np.abs(columns[2][:, -velocities:]) < limit).all(axis=1)
    return np.sort(drawn[fine][:rows])


def _stored(records: Rows) -> bool:
    return {"infos/qpos", "infos/qvel"} <= set(records.columns)


def _simulate(records: Rows, rows: Array) -> tuple[Array, Array]:
    """Next states (k, S) and rewards (k,) of the sample in the task's simulator."""
    from offlinerlkit_romi.envs.make import make_bare_env

    assert records.task is not None
    env: Any = make_bare_env(records.task)
    states, rewards = [], []
    try:
        for qpos, qvel, action in zip(
            *_mechanics(records, rows), records.actions[rows], strict=True
        ):
            env.reset()  # clears what the solver remembers of the step before
            _place(records, env, qpos, qvel)
            state, reward, *_ = env.step(np.clip(action, -1.0, 1.0))
            states.append(state)
            rewards.append(reward)
    finally:
        env.close()
    return np.asarray(states), np.asarray(rewards)


def _is_maze(records: Rows) -> bool:
    return rule_name(records) == MAZE_RULE


def _place(records: Rows, env: Any, qpos: Array, qvel: Array) -> None:
    """Put the simulator into a state; a maze's own origin is elsewhere than D4RL's."""
    if not _is_maze(records):
        env.set_state(qpos, qvel)
        return
    shifted = qpos.copy()
    shifted[:2] -= env.offset
    env.robotics.ant_env.set_state(shifted, qvel)


def _mechanics(records: Rows, rows: Array) -> tuple[Array, Array]:
    """Positions and velocities (k, nq), (k, nv) in float64."""
    if _stored(records):
        qpos, qvel = records.columns["infos/qpos"][rows], records.columns["infos/qvel"][rows]
        return qpos.astype(np.float64), qvel.astype(np.float64)
    if _is_maze(records):
        states = records.observations[rows].astype(np.float64)
        return states[:, :MAZE_POSITIONS], states[:, MAZE_POSITIONS:]
    simulator = simulator_of(records)
    assert simulator is not None
    observations = records.observations[rows].astype(np.float64)
    velocities = len(simulator.positions) + 1
    positions = observations[:, :-velocities]
    if positions.shape[1] < velocities:  # the root's x is not shown, and matters to nothing
        positions = np.concatenate([np.zeros((len(rows), 1)), positions], axis=1)
    return positions, observations[:, -velocities:]
