"""D4RL's AntMaze files: where they are, and what they must not be taken at their word for.

Rows were collected towards other goals and relabelled afterwards: reward and terminal say whether
the *next* row's position lies within 0.5 of one goal (D4RL's relabel_antmaze_rewards.py), so a
terminal does not end a trajectory. Version 0's time limits are out of step with the trajectories
(D4RL issue 77); there, and wherever else the position jumps, the jump ends one.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinerlkit_romi.data.rows import GOALS, Array, Bools, Episodes, Rows, episodes_of

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

JUMP = 10.0  # times the mean step: the published recipe for version 0
GOAL_RADIUS = 0.5
SLACK = 1e-3  # float32 positions


def refine(rows: Rows, task: "Task") -> Rows:
    """Find the trajectories' true ends, and the goal that the rewards are about."""
    if rows.next_observations is not None:  # nothing is inferred from the next row
        return replace(rows, goal=_goal(rows, rows.next_observations, rows.rewards > 0))
    jumps, timeouts = jumps_of(rows.observations), rows.said_timeouts()
    unreliable = task.name.endswith("-v0") and bool(jumps.any())
    ends = jumps if unreliable else timeouts | jumps
    ends[-1] |= timeouts[-1]
    continues = ~(ends | timeouts)
    reached = np.flatnonzero(continues[:-1] & (rows.rewards[:-1] > 0))
    goal = _goal(rows, rows.observations[1:], reached)
    return replace(
        rows.with_columns(timeouts=ends),
        continues=continues,
        goal=goal,
        notes=(*rows.notes, *_notes(jumps & ~timeouts, unreliable), _about(goal)),
    )


def jumps_of(observations: Array) -> Bools:
    """Rows (n,) after which x and y move by more than ten mean steps: another trajectory."""
    steps = np.linalg.norm(np.diff(observations[:, :2], axis=0), axis=1)
    limit = JUMP * steps.mean() if len(steps) else np.inf
    return np.r_[steps > limit, False]


def successes_of(rows: Rows) -> Episodes:
    """Trajectories that reach the goal return 1, as an evaluation that ends there would."""
    episodes = episodes_of(rows.rewards, np.zeros(len(rows), bool), rows.said_timeouts())
    return replace(episodes, returns=(episodes.returns > 0).astype(np.float64))


def _goal(rows: Rows, following: Array, reached: Any) -> tuple[float, float] | None:
    """The one goal that explains all rewarded positions, if there is one."""
    positions = following[reached][:, :2].astype(np.float64)
    if not len(positions):
        return None
    candidates = [_middle(positions)]
    goals = rows.columns.get(GOALS)
    if goals is not None and (goals == goals[0]).all():
        candidates.insert(0, goals[0].astype(np.float64))
    for goal in candidates:
        if np.linalg.norm(positions - goal, axis=1).max() <= GOAL_RADIUS + SLACK:
            return float(goal[0]), float(goal[1])
    return None


def _middle(positions: Array) -> Array:
    """Centre (2,) of nearly the smallest circle around (n, 2): steps towards the farthest point."""
    centre = positions.mean(axis=0)
    for step in range(2, 500):
        farthest = positions[np.argmax(((positions - centre) ** 2).sum(axis=1))]
        centre = centre + (farthest - centre) / step
    return centre


def _notes(unmarked: Bools, unreliable: bool) -> list[str]:
    notes = ["terminals do not end a trajectory in AntMaze: the next row still follows"]
    if unmarked.any():
        notes.append(f"{int(unmarked.sum())} jumps of the position without a time limit end one")
    if unreliable:
        notes.append("version 0's time limits are out of step (D4RL issue 77): jumps are used")
    return notes


def _about(goal: tuple[float, float] | None) -> str:
    if goal is None:
        return "no single goal explains the rewards: model rollouts do not end at one"
    return f"rewards are about the goal ({goal[0]:.2f}, {goal[1]:.2f}): model rollouts end there"
