"""The simulators' rewards from (s, a, s'), for models that need not learn them.

HalfCheetah, Hopper and Walker2d pay (x' - x) / dt, an alive bonus, and less c |a|^2. The mean
velocity of a step is taken from the instantaneous ones that are observed at both ends; how far that
is from the recorded rewards is measured in docs/results/known_rewards.json. NeoRL observes x too,
but a model's error of x' would be divided by dt, and models are all that this is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.errors import UserError

RewardFn = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Runner:
    """What a planar runner is paid.

    Attributes:
        alive: Bonus of every step, the last one included.
        control: Cost of an action's squared length.
        later: Weight of the later velocity in a step's mean. Of n substeps Euler's integrator moves
            x with the velocities at their ends, so a steady acceleration gives (n + 1) / 2n;
            Runge-Kutta's moves it evenly, one half.
    """

    alive: float
    control: float
    later: float


RUNNERS = {
    "HalfCheetah-v4": Runner(0.0, 0.1, 0.6),
    "Hopper-v4": Runner(1.0, 1e-3, 0.5),
    "Walker2d-v4": Runner(1.0, 1e-3, 0.5),
}


def reward_formula(task: Task | str) -> RewardFn:
    """A function of raw (obs, act, next_obs) -> (n, 1), tensors or numpy, on their device.

    Args:
        task: A task or its name.

    Raises:
        UserError: The task is of another simulator, or the user's own, whose rewards may be others.
    """
    task = get_task(task) if isinstance(task, str) else task
    runner = None if isinstance(task, CustomTask) else RUNNERS.get(task.env_id)
    if runner is None:
        raise UserError(
            f"no reward formula is known for {task.name}: give --reward learned (formulas are "
            "those of HalfCheetah, Hopper and Walker2d; your own data: reward_fn)"
        )
    # x's, the first of the velocities: as many as positions, of which x may be missing
    first = task.obs_dim // 2
    v = slice(first, first + 1)

    def reward(obs: Any, act: Any, next_obs: Any) -> Any:
        speed = (1 - runner.later) * obs[..., v] + runner.later * next_obs[..., v]
        return speed + runner.alive - runner.control * (act**2).sum(-1)[..., None]

    return reward
