"""Stand-ins for NeoRL's files: its format and way of collecting, policies of our own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offlinerlkit_romi.data.folders import GENERATED_VARIABLE, generated_folder
from offlinerlkit_romi.data.generate import (
    BEHAVIOUR_FOLDER,
    GENERATOR_VERSION,
    SHARD_ROWS,
    Part,
    make_once,
    metadata_of,
    run_with_bar,
)
from offlinerlkit_romi.data.lanes import SPECS, Array
from offlinerlkit_romi.data.worker import Shard
from offlinerlkit_romi.system.files import written_whole

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
    """The simulator of a task, a key of `lanes.SPECS`, and the snapshot that plays it."""
    robot, _, rest = task.partition("-v3-")
    environment = robot.lower()
    return environment, f"{environment}-{LEVELS[robot][rest.partition('-')[0]]:04d}k"


def trajectories_of(task: str) -> int:
    """How many trajectories the task's own file holds."""
    size = task.rpartition("-")[2]
    return int(size) if size.isdigit() else 1000


def neorl_generated_path(task: str, transitions: int, seed: int) -> Path:
    """The cached file's name: everything its content depends on."""
    name = f"generated-{task}-{transitions}-seed{seed}-g{GENERATOR_VERSION}.npz"
    return generated_folder() / name


def generate_neorl(
    task: str,
    transitions: int = 200_000,
    seed: int = 0,
    *,
    jobs: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Make a NeoRL-format file unless it is cached, and return it.

    Args:
        task: The task's name.
        transitions: Whole trajectories are made until they hold so many rows, at most as many
            trajectories as NeoRL's own file has.
        seed: Equal seeds give equal bytes, whatever `jobs` is.
        jobs: Processes; default one per core.
        progress: Show a progress bar on stderr.
        force: Make it again even if it is cached.

    Raises:
        UserError: Impossible numbers, a folder that cannot be written, or a full disk.
    """
    path = neorl_generated_path(task, transitions, seed)
    environment, actor = actor_of(task)

    def make() -> None:
        shards = _shards(environment, actor, transitions, seed)
        arrays = _joined(run_with_bar(task, shards, jobs, progress))
        kept = _first_trajectories(arrays, transitions, trajectories_of(task))
        parts = [Part(actor, len(kept["rewards"]))]
        about = metadata_of(task, SPECS[environment].env_id, parts, seed, owner="NeoRL")
        count = int((kept["terminals"] | kept["timeouts"]).sum())
        _write(path, kept, {**about, "trajectories": f"{count} of {trajectories_of(task)}"})

    return make_once(path, transitions, seed, force, make)


def _shards(environment: str, actor: str, rows: int, seed: int) -> list[Shard]:
    count = -(-rows // SHARD_ROWS)
    edges = np.linspace(0, rows, count + 1).round().astype(int)
    path = str(BEHAVIOUR_FOLDER / f"{actor}.npz")
    return [
        Shard(environment, path, n, (seed, number), with_position=True, mean_share=MEAN_SHARE)
        for number, n in enumerate(np.diff(edges).tolist())
    ]


def _joined(pieces: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}


def _first_trajectories(arrays: dict[str, Array], rows: int, most: int) -> dict[str, Array]:
    """The fewest whole trajectories with so many rows, but no more than `most`."""
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    enough = int(np.searchsorted(ends, rows)) + 1
    stop = ends[min(enough, most, len(ends)) - 1]
    return {key: value[:stop] for key, value in arrays.items()}


def _write(path: Path, arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    done = arrays["terminals"] | arrays["timeouts"]
    content: dict[str, Array] = {
        "obs": arrays["observations"],
        "next_obs": arrays["next_observations"],
        "action": arrays["actions"],
        "reward": arrays["rewards"][:, None],
        "done": done[:, None].astype(np.float32),
        "index": (np.flatnonzero(done) + 1).astype(np.float32),
        "metadata": np.asarray(json.dumps(metadata)),
    }
    with written_whole(path, GENERATED_VARIABLE) as temporary, temporary.open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]
