"""Start a real training process, SIGKILL it at random, resume it, compare with a whole run.

A child process is forked, so that torch is imported once. It reports every phase that it enters
through a pipe; the parent waits for the n-th entry of a randomly chosen phase, then for a random
part of that phase's usual length, and kills.
"""

from __future__ import annotations

import os
import random
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi import cli
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.envs import Evaluator
from offlinerlkit_romi.experiment import lifecycle
from offlinerlkit_romi.experiment.resolve import ALGORITHMS
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer, PolicyTrainer, SnapshotScorer
from offlinerlkit_romi.policy_trainer.curve import Curve
from offlinerlkit_romi.utils.log_handlers import CSVOutputHandler
from tests.support.comparing import differences, outcome
from tests.support.programs import flags

TASK = "halfcheetah-random-v2"
SETTINGS: dict[str, Any] = {
    **{"task": TASK, "device": "cpu", "threads": 1, "matmul_precision": "highest"},
    **{"epoch": 3, "step_per_epoch": 20, "batch_size": 16, "hidden_dims": (16,)},
    **{"dynamics_hidden_dims": (16,), "dynamics_weight_decay": (0.0, 0.0), "n_ensemble": 3},
    **{"n_elites": 2, "dynamics_max_epochs": 2, "rollout_freq": 5, "rollout_batch_size": 200},
    **{"rollout_length": 2, "dynamics_update_freq": 10, "adv_train_steps": 5},
    **{"adv_batch_size": 16, "weight_hidden_dims": (16,), "checkpoint_share": 1.0},
    **{"eval_episodes": 1, "eval_freq": 100, "eval_async": False},
}
# phase: where its beginning is seen, and about how long it takes in seconds
PHASES: dict[str, tuple[Any, str, float]] = {
    "start": (lifecycle, "load", 0.1),
    "model fit": (lifecycle, "pretrain", 0.1),
    "policy update": (PolicyTrainer, "_fire", 0.005),
    "rollout": (MBPolicyTrainer, "_roll_out", 0.01),
    "model update": (MBPolicyTrainer, "_update_model", 0.05),
    "model buffer": (ReplayBuffer, "add_batch", 0.001),
    "checkpoint write": (StateStore, "save", 0.02),
    "checkpoint digest": (StateStore, "_write_digest", 0.005),
    "checkpoint removal": (StateStore, "_prune", 0.002),
    "weights": (PolicyTrainer, "_save_weights", 0.005),
    "evaluation": (Evaluator, "__call__", 0.5),
    "evaluation start": (SnapshotScorer, "start", 0.5),
    "row": (Curve, "_write", 0.002),
    "logging": (CSVOutputHandler, "writekvs", 0.001),
    "closing": (lifecycle, "_close", 0.3),
}
SECONDS_AT_MOST = 300.0


@dataclass(frozen=True)
class Trial:
    """One kill: where it hit, and what came of the resumed run."""

    algo: str
    phase: str
    killed: bool
    resumed_from: int | None
    differences: tuple[str, ...]


def write_data(path: Path, rows: int = 600) -> Path:
    """A small file in D4RL's format."""
    import h5py

    rng = np.random.default_rng(0)
    states = rng.normal(size=(rows + 1, 17)).astype(np.float32)
    timeouts = np.zeros(rows, bool)
    timeouts[199::200] = True
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = states[:-1], states[1:]
        file["actions"] = rng.uniform(-1, 1, (rows, 6)).astype(np.float32)
        file["rewards"] = rng.normal(size=rows).astype(np.float32)
        file["terminals"], file["timeouts"] = np.zeros(rows, bool), timeouts
    return path


def command(algo: str, data: Path, log_root: Path, **changes: Any) -> list[str]:
    """The words of `train` with the small settings that the algorithm knows."""
    known = {field.name for field in fields(ALGORITHMS[algo])}
    settings = SETTINGS | {"data": data, "log_root": log_root} | changes
    return ["train", algo, *flags({n: value for n, value in settings.items() if n in known})]


def run_whole(words: Sequence[str]) -> int:
    """Run a command in a process of its own; returns its status."""
    pid, _ = _fork(words)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_and_kill(words: Sequence[str], phase: str, entry: int, delay: float) -> bool:
    """Run a command and kill it; returns whether the kill came before its end."""
    pid, pipe = _fork(words)
    wanted = list(PHASES).index(phase)
    end = time.monotonic() + SECONDS_AT_MOST
    with os.fdopen(pipe, "rb", buffering=0) as reports:
        while entry > 0 and time.monotonic() < end:
            ready, _, _ = select.select([reports], [], [], 1.0)
            seen = reports.read(1) if ready else None
            if seen == b"":  # the child has ended
                break
            entry -= seen is not None and seen[0] == wanted
        if entry == 0:
            time.sleep(delay)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def trial(
    algo: str,
    data: Path,
    folder: Path,
    whole: dict[str, Any],
    rng: random.Random,
    changes: Mapping[str, Any],
) -> Trial:
    """Kill one run at a random moment, resume it, compare."""
    phase = rng.choice([name for name in PHASES if name in _seen_phases(changes)])
    entry, delay = rng.randint(1, 4), rng.uniform(0, 2) * PHASES[phase][2]
    if phase in ("start", "model fit", "evaluation", "closing"):
        entry = 1
    killed = run_and_kill(command(algo, data, folder, **changes), phase, entry, delay)
    found = list(folder.glob("*/*/seed_*/record/manifest.json"))
    steps = StateStore(found[0].parents[1] / "checkpoint").steps() if found else []
    if found and (found[0].parents[1] / "result" / "summary.json").is_file():
        odd = differences(whole, outcome(found[0].parents[1]))
        return Trial(algo, phase, False, None, tuple(odd))  # too late: the run had ended
    status = run_whole(command(algo, data, folder, resume="auto", **changes))
    runs = list(folder.glob("*/*/seed_*/result/summary.json"))
    if status != 0 or not runs:
        return Trial(algo, phase, killed, None, (f"the resumed run ended with status {status}",))
    odd = differences(whole, outcome(runs[-1].parents[1]))
    return Trial(algo, phase, killed, steps[-1] if steps else None, tuple(odd))


def _seen_phases(changes: Mapping[str, Any]) -> set[str]:
    """A worker's episodes are not in the process that reports."""
    return set(PHASES) - ({"evaluation"} if changes.get("eval_async") else set())


def run_trials(
    algos: Sequence[str],
    kills: int,
    folder: Path,
    seed: int,
    tell: Callable[[str], None] = str,
    **changes: Any,
) -> list[Trial]:
    """`kills` kills, the algorithms in turn; what they are compared with has no worker."""
    rng, data = random.Random(seed), write_data(folder / "data.hdf5")
    whole: dict[str, dict[str, Any]] = {}
    trials: list[Trial] = []
    while sum(t.killed for t in trials) < kills and len(trials) < 3 * kills:
        algo = algos[len(trials) % len(algos)]
        if algo not in whole:
            calm = {k: v for k, v in changes.items() if k != "eval_async"}
            assert run_whole(command(algo, data, folder / f"whole-{algo}", **calm)) == 0
            (summary,) = (folder / f"whole-{algo}").glob("*/*/seed_*/result/summary.json")
            whole[algo] = outcome(summary.parents[1])
        place = folder / f"trial-{len(trials)}"
        trials.append(trial(algo, data, place, whole[algo], rng, changes))
        tell(str(asdict(trials[-1])))
    return trials


def _fork(words: Sequence[str]) -> tuple[int, int]:
    """A child that runs the command line; returns its number and the pipe of its reports."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        if "KILL_AND_RESUME_VERBOSE" not in os.environ:
            os.dup2(silence, 2)
        torch.set_num_threads(1)
        for number, (owner, name, _) in enumerate(PHASES.values()):
            setattr(owner, name, _reporting(getattr(owner, name), bytes([number]), writer))
        status = cli.main(list(words))
    finally:
        os._exit(status)


def _reporting(call: Callable[..., Any], report: bytes, pipe: int) -> Callable[..., Any]:
    def reported(*args: Any, **kwargs: Any) -> Any:
        with suppress(OSError):  # nobody listens to a run that shall not be killed
            os.write(pipe, report)
        return call(*args, **kwargs)

    return reported
