"""Stand-ins for the benchmarks' files: their composition and format, policies of our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offlinerlkit_romi.envs import Task, family_of, get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.policies import RANDOM
from offlinerlkit_romi.standins.simulate import Array, Shard
from offlinerlkit_romi.standins.worker import run_shards
from offlinerlkit_romi.system.files import folder_of, make_folder, written_whole
from offlinerlkit_romi.system.locks import lock_beside, locked
from offlinerlkit_romi.utils.text import bar
from offlinerlkit_romi.version import __version__

FOLDER_VARIABLE = "OFFLINERLKIT_ROMI_DATA"
GENERATOR_VERSION = 2  # raise whenever equal arguments give other bytes
SHARD_ROWS = 12_500  # fixed: the bytes of a file must not depend on the number of cores
BEHAVIOUR_FOLDER = Path(__file__).parent / "behaviour"
SCRIPT = "a scripted gait sent from cell to cell"

Arrays = dict[str, Array]


def generate(
    task: str,
    transitions: int = 200_000,
    seed: int = 0,
    *,
    jobs: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Make a stand-in for a task's file unless it is cached, and return it.

    Args:
        task: The task's name.
        transitions: Number of rows. NeoRL's tasks get whole trajectories that hold so many, at
            most as many trajectories as NeoRL's own file has.
        seed: Equal seeds give equal bytes, whatever `jobs` is.
        jobs: Processes; default one per core.
        progress: Show a progress bar on stderr.
        force: Make it again even if it is cached.

    Raises:
        UserError: Impossible numbers, a missing package, a folder that cannot be written, or a full
            disk.
    """
    facts, path = get_task(task), generated_path(task, transitions, seed)
    if transitions < 1 or seed < 0:
        raise UserError(
            f"cannot generate {transitions} transitions with seed {seed}: "
            "transitions must be at least 1 and seed at least 0"
        )
    make_folder(path.parent, FOLDER_VARIABLE)
    with locked(lock_beside(path)):  # of many at once, one makes it
        if force or not path.exists():
            recipe = RECIPES[facts.family]
            arrays, parts = collected(facts, transitions, seed, jobs, progress)
            recipe.write(path, arrays, _metadata(facts, parts, seed, recipe.owner))
    return path


def generated_folder() -> Path:
    """`$OFFLINERLKIT_ROMI_DATA`, or ~/.cache/offlinerlkit-romi."""
    return folder_of(FOLDER_VARIABLE, "~/.cache/offlinerlkit-romi")


def generated_path(task: str, transitions: int, seed: int) -> Path:
    """The cached file's name: everything its content depends on, and no name of a benchmark's."""
    facts = get_task(task)
    suffix = RECIPES[facts.family].suffix
    name = f"generated-{facts.name}-{transitions}-seed{seed}-g{GENERATOR_VERSION}{suffix}"
    return generated_folder() / name


@dataclass(frozen=True)
class Roles:
    """Snapshots of one SAC training, named by thousands of its steps."""

    training: tuple[int, ...]
    expert: int

    @property
    def medium(self) -> int:
        """The last snapshot of the medium-replay buffer, as D4RL has it."""
        return self.training[-1]


ROLES = {
    "halfcheetah": Roles(training=(20, 40, 60, 80, 100, 120, 140), expert=840),
    "hopper": Roles(training=(20, 60, 100, 120, 140, 180), expert=280),
    "walker2d": Roles(training=(20, 100, 200, 260), expert=1080),
}


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a data set that one policy collects."""

    actor: str
    rows: int


def split_task(task: str) -> tuple[str, str]:
    """`hopper-medium-replay-v2` -> (`hopper`, `medium-replay`)."""
    environment, _, rest = task.partition("-")
    return environment, rest.removesuffix("-v2")


def composition(task: str, transitions: int) -> list[Part]:
    """Which policy collects how many rows of `task`, in the order of the file.

    random: uniform actions. medium, expert: one policy. medium-expert: half and half.
    medium-replay: every snapshot of the training up to medium, each with the share of training
    steps since the one before, as a replay buffer would hold them.
    """
    environment, kind = split_task(task)
    roles = ROLES[environment]
    if kind == "random":
        return [Part(RANDOM, transitions)]
    steps: tuple[int, ...] = (roles.medium,) if kind == "medium" else (roles.expert,)
    shares: Sequence[float] = (1.0,)
    if kind == "medium-expert":
        steps, shares = (roles.medium, roles.expert), (0.5, 1.0)
    elif kind == "medium-replay":
        steps, shares = roles.training, [step / roles.medium for step in roles.training]
    edges = [0, *(round(transitions * share) for share in shares)]  # cumulative
    rows = np.diff(edges).tolist()
    parts = [Part(f"{environment}-{step:04d}k", n) for step, n in zip(steps, rows, strict=True)]
    return [part for part in parts if part.rows > 0]


# NeoRL takes SAC policies at about 25, 50 and 75 % of the best return: of our snapshots, those
# nearest to these shares with the mean action, except hopper's high, which has none between 50 and
# 97 %. Thousands of training steps.
LEVELS = {
    "HalfCheetah": {"low": 60, "medium": 140, "high": 440},
    "Hopper": {"low": 140, "medium": 180, "high": 280},
    "Walker2d": {"low": 200, "medium": 260, "high": 620},
}
MEAN_SHARE = 0.8  # "with 80% chance we take the mean ... with 20% probability ... sample" (README)


def actor_of(task: str) -> tuple[str, str]:
    """The simulator of a task, a key of `simulate.SPECS`, and the snapshot that plays it."""
    robot, _, rest = task.partition("-v3-")
    environment = robot.lower()
    return environment, f"{environment}-{LEVELS[robot][rest.partition('-')[0]]:04d}k"


def trajectories_of(task: str) -> int:
    """How many trajectories the task's own file holds."""
    size = task.rpartition("-")[2]
    return int(size) if size.isdigit() else 1000


class Recipe:
    """How stand-ins for D4RL's locomotion files are made; other families differ in some steps.

    Attributes:
        owner: Whose format it is, and whose files they are not.
        suffix: Of a file.
    """

    owner, suffix = "D4RL", ".hdf5"

    def parts(self, task: str, transitions: int) -> list[Part]:
        """Which policy collects how many rows, in the order of the file."""
        return composition(task, transitions)

    def shard(self, task: str, actor: str, rows: int, seed: tuple[int, int, int]) -> Shard:
        """A piece of a part; `seed` is the file's, the part's number and the piece's."""
        path = RANDOM if actor == RANDOM else _weights(actor)
        return Shard(split_task(task)[0], path, rows, seed)

    def join(self, task: str, parts: list[Part], played: list[Arrays]) -> tuple[Arrays, list[Part]]:
        """The rows of all parts, and the parts as they then are: every one cut to its rows."""
        cut = [
            {key: value[: part.rows] for key, value in arrays.items()}
            for part, arrays in zip(parts, played, strict=True)
        ]
        for arrays in cut[:-1]:
            # another policy's first step must not look like this one's next
            arrays["timeouts"][-1] = not arrays["terminals"][-1]
        return _joined(cut), parts

    def write(self, path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
        """Arrays under D4RL's keys and text under `metadata`."""
        import h5py

        with written_whole(path, FOLDER_VARIABLE) as partial, h5py.File(partial, "w") as file:
            for key, value in arrays.items():
                file.create_dataset(key, data=value)
            for key, text in metadata.items():
                file.create_dataset(f"metadata/{key}", data=np.bytes_(text))


class MazeRecipe(Recipe):
    """D4RL's AntMaze files: a scripted ant in the same mazes."""

    def parts(self, task: str, transitions: int) -> list[Part]:
        """One."""
        return [Part(SCRIPT, transitions)]

    def shard(self, task: str, actor: str, rows: int, seed: tuple[int, int, int]) -> Shard:
        """The worker knows the maze by the task."""
        return Shard(task, actor, rows, (seed[0], seed[2]))


class NeoRLRecipe(Recipe):
    """NeoRL's files: whole trajectories of one policy, which mostly takes its mean action."""

    owner, suffix = "NeoRL", ".npz"

    def parts(self, task: str, transitions: int) -> list[Part]:
        """One."""
        return [Part(actor_of(task)[1], transitions)]

    def shard(self, task: str, actor: str, rows: int, seed: tuple[int, int, int]) -> Shard:
        """The x position is observed, though not by the policy."""
        environment, numbers = actor_of(task)[0], (seed[0], seed[2])
        return Shard(environment, _weights(actor), rows, numbers, True, MEAN_SHARE)

    def join(self, task: str, parts: list[Part], played: list[Arrays]) -> tuple[Arrays, list[Part]]:
        """The fewest whole trajectories that hold the rows, no more than the task's own file."""
        (part,), (arrays,) = parts, played
        ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
        enough = int(np.searchsorted(ends, part.rows)) + 1
        stop = int(ends[min(enough, trajectories_of(task), len(ends)) - 1])
        return {key: value[:stop] for key, value in arrays.items()}, [Part(part.actor, stop)]

    def write(self, path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
        """As polixir's, with text beside."""
        done = arrays["terminals"] | arrays["timeouts"]
        trajectories = f"{int(done.sum())} of {trajectories_of(metadata['task'])}"
        content: Arrays = {
            "obs": arrays["observations"],
            "next_obs": arrays["next_observations"],
            "action": arrays["actions"],
            "reward": arrays["rewards"][:, None],
            "done": done[:, None].astype(np.float32),
            "index": (np.flatnonzero(done) + 1).astype(np.float32),
            "metadata": np.asarray(json.dumps({**metadata, "trajectories": trajectories})),
        }
        with written_whole(path, FOLDER_VARIABLE) as partial, partial.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]


def _weights(actor: str) -> str:
    return str(BEHAVIOUR_FOLDER / f"{actor}.npz")


RECIPES = {"d4rl-mujoco": Recipe(), "d4rl-antmaze": MazeRecipe(), "neorl": NeoRLRecipe()}


def collected(
    task: Task, transitions: int, seed: int, jobs: int | None, progress: bool
) -> tuple[Arrays, list[Part]]:
    """The rows of a stand-in, and who plays them.

    Raises:
        UserError: A package is missing.
    """
    family_of(task).require()  # here, where it is one line, and not in a worker
    recipe = RECIPES[task.family]
    parts = recipe.parts(task.name, transitions)
    shards = [
        [recipe.shard(task.name, part.actor, n, (seed, place, k)) for k, n in enumerate(_cut(part))]
        for place, part in enumerate(parts)
    ]
    pieces = iter(_simulated(task.name, [x for row in shards for x in row], jobs, progress))
    return recipe.join(task.name, parts, [_joined([next(pieces) for _ in row]) for row in shards])


def _cut(part: Part) -> list[int]:
    """Rows of a part's independent pieces, about `SHARD_ROWS` each."""
    edges = np.linspace(0, part.rows, -(-part.rows // SHARD_ROWS) + 1).round().astype(int)
    rows: list[int] = np.diff(edges).tolist()
    return rows


def _simulated(
    task: str, shards: Sequence[Shard], jobs: int | None, progress: bool
) -> list[Arrays]:
    total = sum(shard.rows for shard in shards)
    shown = bar(f"simulating {task}", total, " rows", disable=not progress, unit_scale=True)
    with shown:
        return run_shards(shards, jobs, shown.update)


def _joined(pieces: Sequence[Arrays]) -> Arrays:
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}


def _metadata(task: Task, parts: Sequence[Part], seed: int, owner: str) -> dict[str, str]:
    """What a generated file says about itself; `data` makes notes of it."""
    import gymnasium
    import mujoco

    return {
        "generated": f"by offlinerlkit-romi; not a {owner} file",
        "task": task.name,
        "env_id": task.env_id,
        "policies": json.dumps([[part.actor, part.rows] for part in parts]),
        "seed": str(seed),
        "generator_version": str(GENERATOR_VERSION),
        "offlinerlkit_romi": __version__,
        "gymnasium": gymnasium.__version__,
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
    }
