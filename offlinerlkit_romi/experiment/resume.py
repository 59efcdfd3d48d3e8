"""Which run to go on with, and whether it is the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine.device import machine
from offlinerlkit_romi.errors import UserError, shown
from offlinerlkit_romi.experiment.config import as_dict, flag
from offlinerlkit_romi.experiment.manifest import describe_config
from offlinerlkit_romi.experiment.own_data import record_of
from offlinerlkit_romi.experiment.resolve import Resolved, settle
from offlinerlkit_romi.experiment.summary import SUMMARY_FILE
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.system.locks import locked
from offlinerlkit_romi.system.machine import versions
from offlinerlkit_romi.utils.logger import ROOT_DIR

AUTO = "auto"
MANIFEST = "record/manifest.json"
DIAGNOSIS = "result/diagnosis.json"
# what may differ between the parts of one run: none of it changes what is computed
FREE = {
    *("resume", "log_root", "algo_name", "threads", "engine", "dynamics_cache", "eval_async"),
    *("checkpoint_freq", "checkpoint_share", "keep_state", "on_divergence"),
}


@dataclass(frozen=True)
class Earlier:
    """A run to go on with.

    Attributes:
        folder: The run's folder.
        manifest: What it wrote about itself when it started.
        resolved: Its configuration.
    """

    folder: Path
    manifest: dict[str, Any]
    resolved: Resolved


def read_run(folder: str | Path) -> Earlier:
    """Read a run's papers.

    Raises:
        UserError: The folder is not a run's, or its manifest is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        entries = manifest["config"]
        values = {name: entry["value"] for name, entry in entries.items()}
        resolved = settle(manifest["algo"], values)
        sources = {name: str(entry["source"]) for name, entry in entries.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged: it lacks the configuration") from error
    merged = resolved.sources | sources
    return Earlier(folder, manifest, Resolved(resolved.algo, resolved.config, merged))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a run wrote about itself.

    Raises:
        UserError: There is nothing, or it is damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"{folder} is not a run's folder: no {MANIFEST} there; "
            "give log/<task>/<algo>.../seed_..."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise UserError(f"{path} is damaged: it is no JSON object")
    for name in ("data", "machine", "versions", "config"):
        if not isinstance(manifest.get(name), dict):
            raise UserError(f"{path} is damaged: {name} is no JSON object")
    return manifest


def starting_point(algo: str, values: Mapping[str, Any]) -> Resolved | None:
    """The configuration that `resume=FOLDER` among the values starts from, None without one.

    Raises:
        UserError: No such run, or one of another algorithm.
    """
    folder = values.get("resume")
    if folder in (None, "", AUTO):
        return None
    earlier = read_run(str(folder))
    if earlier.resolved.algo != algo:
        raise UserError(
            f"--resume {folder}: that run is {earlier.resolved.algo}, not {algo}; "
            f"write `train {earlier.resolved.algo} --resume ...`"
        )
    return earlier.resolved


def find_earlier(resolved: Resolved) -> Earlier | None:
    """The run that `--resume` asks for; None to start a new one.

    Raises:
        UserError: The run cannot be gone on with.
    """
    wish = resolved.config.resume
    if not wish:
        return None
    if wish == AUTO:
        return _newest_unfinished(resolved)
    earlier = read_run(wish)
    _refuse_differences(earlier.resolved, resolved)
    _refuse_ended(earlier, resolved)
    return earlier


def config_hash(resolved: Resolved) -> str:
    """SHA-256 of all that decides what a run computes, its number of epochs apart."""
    text = json.dumps({"algo": resolved.algo, **_decisive(resolved)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_data(earlier: Earlier, dataset: Dataset) -> None:
    """Compare the data set with the one the run began on.

    Raises:
        UserError: It is another one.
    """
    before, now = earlier.manifest.get("data", {}).get("sha256"), dataset.info.sha256
    if before != now:
        raise UserError(
            f"{dataset.info.path or 'this'} is not the data set that {earlier.folder} began on: "
            f"sha256 {now[:12]}... instead of {str(before)[:12]}...; put the file back, or start "
            "afresh"
        )
    told = earlier.manifest["data"].get("task") or {}
    facts = record_of(dataset).get("task", {})
    changed = [name for name in facts if told.get(name) != facts[name]]
    if changed:
        raise UserError(
            f"--resume: {changed[0]} of the task is {shown(facts[changed[0]])}, {earlier.folder} "
            f"began with {shown(told.get(changed[0]))}; tell the same, or start afresh"
        )


def same_arithmetic(earlier: Earlier) -> None:
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


def other_circumstances(earlier: Earlier, device: torch.device) -> list[str]:
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


def record_resumption(
    earlier: Earlier, resolved: Resolved, step: int, device: torch.device, argv: list[str]
) -> None:
    """Note in the manifest that the run went on, where, and under what."""
    entry = {"step": step, "argv": argv, "versions": versions(), "machine": machine(device)}
    config = describe_config(resolved)
    told = earlier.manifest.get("resumed", [])
    resumptions = [*(told if isinstance(told, list) else []), entry]
    manifest = {**earlier.manifest, "config": config, "resumed": resumptions}
    write_json(earlier.folder / MANIFEST, manifest)
    write_json(earlier.folder / "record" / "config.json", config)


@contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold a run's folder.

    Raises:
        UserError: Another process trains in it.
    """

    def refuse() -> None:
        raise UserError(f"another process is training in {folder}: wait for it")

    with locked(Path(folder) / ".lock", on_wait=refuse):
        yield


def _decisive(resolved: Resolved) -> dict[str, Any]:
    values = as_dict(resolved.config)
    free = FREE | ({"epoch"} if _may_grow(resolved) else set())
    return {name: value for name, value in values.items() if name not in free}


def _may_grow(resolved: Resolved) -> bool:
    """More epochs change nothing of the first ones, unless a schedule spans them all."""
    return getattr(resolved.config, "actor_lr_schedule", "constant") == "constant"


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


def _refuse_ended(earlier: Earlier, resolved: Resolved) -> None:
    folder = earlier.folder
    if has_diverged(folder):
        raise UserError(
            f"--resume {folder}: that run diverged and would do so again; see {folder / DIAGNOSIS}"
        )
    if not (folder / SUMMARY_FILE).is_file():
        return
    if resolved.config.epoch == earlier.resolved.config.epoch:
        raise UserError(
            f"--resume {folder}: that run is finished ({resolved.config.epoch} epochs); "
            "give it more with --epoch"
        )
    if not any((folder / "checkpoint").glob("state-*.pt")):
        raise UserError(
            f"--resume {folder}: that run is finished and did not keep its state; "
            "train with --keep-state to be able to go on after the end"
        )


def has_diverged(folder: Path) -> bool:
    """Whether the sentinel stopped a run."""
    try:
        return bool(json.loads((folder / DIAGNOSIS).read_text("utf-8")).get("stopped"))
    except (OSError, ValueError, AttributeError):
        return False


def runs_of(resolved: Resolved) -> Iterator[Earlier]:
    """The runs of this very configuration under its log root, newest first."""
    config = resolved.config
    root = Path(config.log_root or ROOT_DIR) / config.task
    found = sorted(root.glob(f"*/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    for folder in (path.parents[1] for path in reversed(found)):
        try:
            earlier = read_run(folder)
        except UserError:  # a damaged one is not ours to go on with
            continue
        if earlier.resolved.algo == resolved.algo and _same_run(earlier.resolved, resolved):
            yield earlier


def newest_finished(resolved: Resolved) -> Path | None:
    """The folder of the newest finished run of this very configuration."""
    folders = (earlier.folder for earlier in runs_of(resolved))
    return next((folder for folder in folders if (folder / SUMMARY_FILE).is_file()), None)


def _newest_unfinished(resolved: Resolved) -> Earlier | None:
    for earlier in runs_of(resolved):
        if not (earlier.folder / SUMMARY_FILE).is_file() and not is_held(earlier.folder):
            _refuse_ended(earlier, resolved)
            return earlier
    return None


def _same_run(before: Resolved, now: Resolved) -> bool:
    named_alike = before.config.algo_name == now.config.algo_name
    return (
        named_alike
        and before.config.epoch == now.config.epoch
        and config_hash(before) == config_hash(now)
    )


def is_held(folder: Path) -> bool:
    """Whether a process trains in a run's folder now."""
    try:
        with run_lock(folder):
            return False
    except UserError:
        return True
