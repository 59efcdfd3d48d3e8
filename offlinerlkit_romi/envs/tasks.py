"""The tasks by their benchmarks' names, with the facts the rest of the package asks of a task."""

from dataclasses import dataclass

from offlinerlkit_romi.errors import UserError, unknown_name

MAX_EPISODE_STEPS = 1000
DATASETS = ("random", "medium", "medium-replay", "medium-expert", "expert")


@dataclass(frozen=True)
class Task:
    """One offline task: a simulator, a data set's name and the ends of its score scale.

    Attributes:
        name: The benchmark's name, such as ``hopper-medium-v2``.
        env_id: Gymnasium's id of the same simulator: ``-v4`` equals D4RL's ``-v2``, ``-v5`` not.
        obs_dim: S.
        action_dim: A; actions lie in [-1, 1].
        ref_min: Return that scores 0 (D4RL: ``d4rl/infos.py``).
        ref_max: Return that scores 100.
        max_episode_steps: Time limit in simulator steps.
        termination: Name of the termination rule, see ``utils.termination_fns``.
        family: Name of its benchmark: `envs.families` makes its simulator, `data.benchmarks` reads,
            fetches and generates its data.
        like: The task whose published settings serve where this one has none of its own.
    """

    name: str
    env_id: str
    obs_dim: int
    action_dim: int
    ref_min: float
    ref_max: float
    max_episode_steps: int
    termination: str
    family: str = "d4rl-mujoco"
    like: str | None = None


# simulator: (env_id, S, A, ref_min, ref_max). Hopper's ref_min is not what a random policy earns
# (about +18); every published score uses it all the same.
SIMULATORS = {
    "halfcheetah": ("HalfCheetah-v4", 17, 6, -280.178953, 12135.0),
    "hopper": ("Hopper-v4", 11, 3, -20.272305, 3234.3),
    "walker2d": ("Walker2d-v4", 17, 6, 1.629008, 4592.3),
}


def _locomotion() -> list[Task]:
    return [
        Task(f"{simulator}-{dataset}-v2", *facts, MAX_EPISODE_STEPS, termination=simulator)
        for simulator, facts in SIMULATORS.items()
        for dataset in DATASETS
    ]


# NeoRL's three simulators, D4RL's with the x position in the observation. The references are those
# of the published tables (not in NeoRL's repository; see docs/data_reference.md).
NEORL_SIMULATORS = {
    "HalfCheetah": ("HalfCheetah-v4", 18, 6, -298.0, 12284.0),
    "Hopper": ("Hopper-v4", 12, 3, 5.0, 3294.0),
    "Walker2d": ("Walker2d-v4", 18, 6, 1.0, 5143.0),
}
NEORL_RULES = {
    "HalfCheetah": "halfcheetah",
    "Hopper": "neorl-hopper",
    "Walker2d": "neorl-walker2d",
}
NEORL_LEVELS = ("low", "medium", "high")
# of trajectories; without a number a task has 1000 of them, as in the published tables
NEORL_SIZES = {"": 1000, "-100": 100, "-10000": 10_000}


def _neorl() -> list[Task]:
    return [
        Task(
            f"{simulator}-v3-{level}{size}",
            *facts,
            MAX_EPISODE_STEPS,
            termination=NEORL_RULES[simulator],
            family="neorl",
            like=f"{simulator}-v3-{level}" if size else None,
        )
        for simulator, facts in NEORL_SIMULATORS.items()
        for level in NEORL_LEVELS
        for size in NEORL_SIZES
    ]


def _neorl_aliases() -> dict[str, str]:
    """The ROMI paper's `HalfCheetah-L`, and the number of trajectories spelled out."""
    return {
        spelling: f"{simulator}-v3-{level}"
        for simulator in NEORL_SIMULATORS
        for level in NEORL_LEVELS
        for spelling in (
            f"{simulator}-{level[0].upper()}",
            f"{simulator}-{level}",
            f"{simulator}-v3-{level}-1000",
        )
    }


# maze: (env_id, time limit). Version 2 has the data of version 0 with repaired time limits, and a
# goal per episode; the paper's table, and its settings, are version 0's.
ANTMAZES = {
    "umaze": ("AntMaze_UMaze-v5", 700),
    "umaze-diverse": ("AntMaze_UMaze-v5", 700),
    "medium-play": ("AntMaze_Medium-v5", 1000),
    "medium-diverse": ("AntMaze_Medium-v5", 1000),
    "large-play": ("AntMaze_Large-v5", 1000),
    "large-diverse": ("AntMaze_Large-v5", 1000),
}


def _antmaze() -> list[Task]:
    """One rewarded step ends an episode: the return is 0 or 1, the score a success rate."""
    return [
        Task(
            f"antmaze-{maze}-v{version}",
            env_id,
            obs_dim=29,
            action_dim=8,
            ref_min=0.0,
            ref_max=1.0,
            max_episode_steps=limit,
            termination="antmaze",
            family="d4rl-antmaze",
            like=f"antmaze-{maze}-v0" if version else None,
        )
        for maze, (env_id, limit) in ANTMAZES.items()
        for version in (0, 2)
    ]


TASKS: dict[str, Task] = {task.name: task for task in (*_locomotion(), *_antmaze(), *_neorl())}
# other spellings of a task's name, such as a paper's
ALIASES: dict[str, str] = _neorl_aliases()


def task_names(family: str | None = None) -> tuple[str, ...]:
    """Return the names of all tasks, or of one family's, simulator by simulator."""
    return tuple(name for name, task in TASKS.items() if family in (None, task.family))


def canonical(name: str) -> str:
    """The task's own name for one of its other spellings; any other name as it is."""
    return ALIASES.get(name, name)


def get_task(name: str) -> Task:
    """Look a task up by its exact name, or another benchmark's exact name for it.

    Raises:
        UserError: There is no such task; the message names the nearest ones.
    """
    if canonical(name) in TASKS:
        return TASKS[canonical(name)]
    remedy = "`offlinerlkit-romi data list` shows them all"
    raise UserError(unknown_name("task", str(name), TASKS, remedy=remedy))
