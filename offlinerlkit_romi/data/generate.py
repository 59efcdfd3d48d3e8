"""Data sets of D4RL's tasks made on this machine: D4RL's composition and format, other policies."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offlinerlkit_romi.data.actors import RANDOM
from offlinerlkit_romi.data.folders import GENERATED_VARIABLE, generated_folder
from offlinerlkit_romi.data.lanes import SPECS, Array
from offlinerlkit_romi.data.pool import run_shards
from offlinerlkit_romi.data.worker import Shard
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import make_folder, written_whole
from offlinerlkit_romi.system.locks import lock_beside, locked
from offlinerlkit_romi.version import __version__

GENERATOR_VERSION = 2  # raise whenever equal arguments give other bytes
SHARD_ROWS = 12_500  # fixed: the bytes of a file must not depend on the number of cores
BEHAVIOUR_FOLDER = Path(__file__).parent / "behaviour"


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


def shards_of(task: str, parts: Sequence[Part], seed: int) -> list[list[Shard]]:
    """The independent pieces of every part, about `SHARD_ROWS` rows each."""
    environment, _ = split_task(task)
    result = []
    for index, part in enumerate(parts):
        count = -(-part.rows // SHARD_ROWS)
        edges = np.linspace(0, part.rows, count + 1).round().astype(int)
        actor = RANDOM if part.actor == RANDOM else str(BEHAVIOUR_FOLDER / f"{part.actor}.npz")
        result.append(
            [
                Shard(environment, actor, rows, (seed, index, number))
                for number, rows in enumerate(np.diff(edges).tolist())
            ]
        )
    return result


def generated_path(task: str, transitions: int, seed: int) -> Path:
    """The cached file's name: everything its content depends on, and no name of D4RL's."""
    name = f"generated-{task}-{transitions}-seed{seed}-g{GENERATOR_VERSION}.hdf5"
    return generated_folder() / name


def generate(
    task: str,
    transitions: int = 200_000,
    seed: int = 0,
    *,
    jobs: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Make the data set unless it is cached, and return its file.

    Args:
        task: D4RL's task name.
        transitions: Exact number of rows.
        seed: Equal seeds give equal bytes, whatever `jobs` is.
        jobs: Processes; default one per core.
        progress: Show a progress bar on stderr.
        force: Make it again even if it is cached.

    Raises:
        UserError: Impossible numbers, a folder that cannot be written, or a full disk.
    """
    path = generated_path(task, transitions, seed)

    def make() -> None:
        parts = composition(task, transitions)
        arrays = _simulate(task, parts, seed, jobs, progress)
        write_hdf5(path, arrays, metadata_of(task, SPECS[split_task(task)[0]].env_id, parts, seed))

    return make_once(path, transitions, seed, force, make)


def make_once(
    path: Path, transitions: int, seed: int, force: bool, make: Callable[[], None]
) -> Path:
    """Call `make`, which writes `path`, unless it is there; of many at once, one makes it.

    Raises:
        UserError: Impossible numbers, or a folder that cannot be written.
    """
    if transitions < 1 or seed < 0:
        raise UserError(
            f"cannot generate {transitions} transitions with seed {seed}: "
            "transitions must be at least 1 and seed at least 0"
        )
    make_folder(path.parent, GENERATED_VARIABLE)
    with locked(lock_beside(path)):
        if force or not path.exists():
            make()
    return path


def run_with_bar(
    task: str, shards: Sequence[Shard], jobs: int | None, progress: bool
) -> list[dict[str, Array]]:
    """`run_shards` behind a progress bar."""
    from tqdm import tqdm

    total = sum(shard.rows for shard in shards)
    with tqdm(
        total=total, unit=" rows", desc=f"simulating {task}", disable=not progress, unit_scale=True
    ) as bar:
        return run_shards(shards, jobs, bar.update)


def _simulate(
    task: str, parts: Sequence[Part], seed: int, jobs: int | None, progress: bool
) -> dict[str, Array]:
    shards = shards_of(task, parts, seed)
    results = iter(run_with_bar(task, [shard for row in shards for shard in row], jobs, progress))
    joined: list[dict[str, Array]] = []
    for number, (part, row) in enumerate(zip(parts, shards, strict=True)):
        pieces = [next(results) for _ in row]
        arrays = {key: np.concatenate([p[key] for p in pieces])[: part.rows] for key in pieces[0]}
        if number + 1 < len(parts):
            # another policy's first step must not look like this one's next
            arrays["timeouts"][-1] = not arrays["terminals"][-1]
        joined.append(arrays)
    return {key: np.concatenate([arrays[key] for arrays in joined]) for key in joined[0]}


def metadata_of(
    task: str, env_id: str, parts: Sequence[Part], seed: int, owner: str = "D4RL"
) -> dict[str, str]:
    """What a generated file says about itself; `data.load` makes notes of it."""
    import gymnasium
    import mujoco

    return {
        "generated": f"by offlinerlkit-romi; not a {owner} file",
        "task": task,
        "env_id": env_id,
        "policies": json.dumps([[part.actor, part.rows] for part in parts]),
        "seed": str(seed),
        "generator_version": str(GENERATOR_VERSION),
        "offlinerlkit_romi": __version__,
        "gymnasium": gymnasium.__version__,
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
    }


def write_hdf5(path: Path, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    """Write arrays under D4RL's keys and text under `metadata`, whole or not at all."""
    import h5py

    with (
        written_whole(path, GENERATED_VARIABLE) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        for key, value in arrays.items():
            file.create_dataset(key, data=value)
        for key, text in metadata.items():
            file.create_dataset(f"metadata/{key}", data=np.bytes_(text))
