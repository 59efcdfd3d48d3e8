"""Which run to go on with, and whether it is the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine.device import machine
from offlinerlkit_romi.errors import UserError, shown
from offlinerlkit_romi.experiment.config import as_dict, flag
from offlinerlkit_romi.experiment.folder import DIAGNOSIS, MANIFEST, RunFolder
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.experiment.user_data import record_of
from offlinerlkit_romi.system.machine import versions
from offlinerlkit_romi.utils.logger import ROOT_DIR

AUTO = "auto"
# what may differ between the parts of one run: none of it changes what is computed
FREE = {
    *(
        "resume",
        "log_root",
        "algo_name",
        "threads",
        "engine",
        "dynamics_cache",
        "eval_async",
        "eval_shift",
    ),
    *("checkpoint_freq", "checkpoint_share", "keep_state", "on_divergence"),
    *("tracker", "keep_best", "keep_checkpoints", "early_stop_patience"),
}


def starting_point(algo: str, values: Mapping[str, Any]) -> Resolved | None:
    """The configuration that `resume=FOLDER` among the values starts from, None without one.

    Raises:
        UserError: No such run, or one of another algorithm.
    """
    folder = values.get("resume")
    if folder in (None, "", AUTO):
        return None
    earlier = RunFolder(str(folder))
    if earlier.resolved.algo != algo:
        raise UserError(
            f"--resume {folder}: that run is {earlier.resolved.algo}, not {algo}; "
            f"write `train {earlier.resolved.algo} --resume ...`"
        )
    return earlier.resolved


class Runs:
    """The runs on the disk; each is read once, and again only where it has written since."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, int], RunFolder] = {}

    def of(self, resolved: Resolved) -> Iterator[RunFolder]:
        """Those of this very configuration under its log root, newest first."""
        config = resolved.config
        root = Path(config.log_root or ROOT_DIR) / config.task
        found = [(path, path.stat().st_mtime_ns) for path in root.glob(f"*/*/{MANIFEST}")]
        for path, time in reversed(sorted(found, key=lambda pair: pair[1])):
            run = self._read.setdefault((path, time), RunFolder(path.parents[1]))
            try:
                same = _same_run(run.resolved, resolved)
            except UserError:  # a damaged one is not ours to go on with
                continue
            if same:
                yield run

    def finished(self, resolved: Resolved) -> RunFolder | None:
        """The newest finished one."""
        return next((run for run in self.of(resolved) if run.finished), None)

    def unfinished(self, resolved: Resolved) -> RunFolder | None:
        """The newest one to go on with.

        Raises:
            UserError: It diverged.
        """
        for run in self.of(resolved):
            if not run.finished and not run.held:
                _refuse_ended(run, resolved)
                return run
        return None


def find_earlier(resolved: Resolved, runs: Runs | None = None) -> RunFolder | None:
    """The run that `--resume` asks for, among those on the disk; None to start a new one.

    Raises:
        UserError: The run cannot be gone on with.
    """
    wish = resolved.config.resume
    if not wish:
        return None
    if wish == AUTO:
        return (runs or Runs()).unfinished(resolved)
    earlier = RunFolder(wish)
    _refuse_differences(earlier.resolved, resolved)
    _refuse_ended(earlier, resolved)
    return earlier


def config_hash(resolved: Resolved) -> str:
    """SHA-256 of all that decides what a run computes, its number of epochs apart.

    Settings left at the class's default are not in it: one that comes new changes no hash.
    """
    usual = {x.name: x.default for x in fields(resolved.config)}
    told = {
        name: value
        for name, value in _decisive(resolved).items()
        if getattr(resolved.config, name) != usual[name]
    }
    text = json.dumps({"algo": resolved.algo, **told}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_data(earlier: RunFolder, dataset: Dataset) -> None:
    """Compare the data set with the one the run began on.

    Raises:
        UserError: It is another one.
    """
    before, now = earlier.manifest.get("data", {}).get("sha256"), dataset.info.sha256
    if before != now:
        raise UserError(
            f"{dataset.info.path or 'this'} is not the data set that {earlier.path} began on: "
            f"sha256 {now[:12]}... instead of {str(before)[:12]}...; put the file back, or start "
            "afresh"
        )
    told = earlier.manifest["data"].get("task") or {}
    facts = record_of(dataset).get("task", {})
    changed = [name for name in facts if told.get(name) != facts[name]]
    if changed:
        raise UserError(
            f"--resume: {changed[0]} of the task is {shown(facts[changed[0]])}, {earlier.path} "
            f"began with {shown(told.get(changed[0]))}; tell the same, or start afresh"
        )


def same_arithmetic(earlier: RunFolder) -> None:
    """Set threads and matrix kernels as they were, so that sums round alike.

    `auto` settings are measured at the start of a run; on the same kind of processor a resumed run
    takes the first measurement's outcome.
    """
    before, now = earlier.manifest.get("machine", {}), machine(torch.device("cpu"))
    if before.get("cpu") != now["cpu"]:
        return
    precision, threads = before.get("matmul_precision"), before.get("threads")
    if earlier.resolved.config.matmul_precision == "auto" and isinstance(precision, str):
        torch.set_float32_matmul_precision(precision)
    if not earlier.resolved.config.threads and isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)


def other_circumstances(earlier: RunFolder, device: torch.device) -> list[str]:
    """What differs from the first start and may change the last digits."""
    names = ("cpu", "threads", "matmul_precision", "device_name")
    pairs: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
        (earlier.manifest.get("versions", {}), versions(), ("torch", "numpy", "mujoco")),
        (earlier.manifest.get("machine", {}), machine(device), names),
    ]
    return [
        f"{name} {now.get(name)} instead of {before.get(name)}"
        for before, now, names in pairs
        for name in names
        if before.get(name) != now.get(name)
    ]


def _decisive(resolved: Resolved) -> dict[str, Any]:
    values, config = as_dict(resolved.config), resolved.config
    # more epochs change nothing of the first ones, unless a schedule spans them all
    free = FREE | ({"epoch"} if config.actor_lr_schedule == "constant" else set())
    return {name: value for name, value in values.items() if name not in free}


def _refuse_differences(before: Resolved, now: Resolved) -> None:
    old, new = _decisive(before), _decisive(now)
    changed = [
        f"{flag(name)} {new.get(name)} instead of {old.get(name)}"
        for name in new.keys() | old.keys()
        if new.get(name) != old.get(name)
    ]
    if changed:
        raise UserError(
            f"--resume: the configuration has changed: {', '.join(sorted(changed))}; "
            "leave these flags out, or start a new run"
        )
    if now.config.epoch < before.config.epoch:
        raise UserError(
            f"--resume: --epoch {now.config.epoch} instead of {before.config.epoch}: "
            "a run can get more epochs, not fewer"
        )


def _refuse_ended(earlier: RunFolder, resolved: Resolved) -> None:
    folder = earlier.path
    if earlier.diverged:
        raise UserError(
            f"--resume {folder}: that run diverged and would do so again; see {folder / DIAGNOSIS}"
        )
    if not earlier.finished:
        return
    if resolved.config.epoch == earlier.resolved.config.epoch and not earlier.summary.stopped:
        raise UserError(
            f"--resume {folder}: that run is finished ({resolved.config.epoch} epochs); "
            "give it more with --epoch"
        )
    if not earlier.has_state:
        raise UserError(
            f"--resume {folder}: that run is finished and did not keep its state; "
            "train with --keep-state to be able to go on after the end"
        )


def _same_run(before: Resolved, now: Resolved) -> bool:
    return (
        before.algo == now.algo
        and before.config.algo_name == now.config.algo_name
        and before.config.epoch == now.config.epoch
        and before.config.early_stop_patience == now.config.early_stop_patience
        and config_hash(before) == config_hash(now)
    )
