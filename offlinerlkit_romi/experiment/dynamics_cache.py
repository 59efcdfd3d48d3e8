"""One fit of the dynamics model for all runs that would make the very same one.

An entry is found by what goes into a fit, not by the names of its settings: the rows it learns
from, the state of everything it changes (initial weights, optimiser, random generator, and with
them architecture and seed), how long it goes on, the code, and the machine as far as that rounds
sums. It holds what comes out: the same things' state after the fit, and its curve. A run that
takes it is bit-equal to one that fits for itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.dynamics import EnsembleDynamics, FitProgress
from offlinerlkit_romi.engine import StateStore, capture, restore
from offlinerlkit_romi.engine.device import machine
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.system.locks import lock_beside, locked
from offlinerlkit_romi.utils.logger import ROOT_DIR

AUTO, OFF = "auto", "off"
FOLDER = ".dynamics"
# files of the package whose code decides what a fit gives
_CODE = (
    *("dynamics/count_dynamics.py", "dynamics/ensemble_dynamics.py", "dynamics/fit.py"),
    *("dynamics/losses.py", "engine/capture.py", "engine/metrics.py", "engine/optim.py"),
    *("engine/state.py", "engine/tape.py", "modules/common.py", "modules/dynamics_module.py"),
    *("modules/hash_coder.py", "nets.py", "utils/scaler.py"),
)
_PLAIN = (bool, int, float, str)
_ROUNDING = ("cpu", "threads", "matmul_precision", "device_name")


class Fit(NamedTuple):
    """What a fit leaves for whoever tells of it.

    Attributes:
        errors: Each member's best hold-out error, (E,).
        progress: Its epochs.
        seconds: How long it took.
        fitted_by: The folder of the run that made it.
    """

    errors: torch.Tensor
    progress: list[FitProgress]
    seconds: float
    fitted_by: str


@dataclass(frozen=True)
class Used:
    """Which fit a run used, for its manifest.

    Attributes:
        key: The cache's name for the fit; None where it was off.
        taken: From the cache, or made by this run.
        fitted_by: The folder of the run that made it.
        seconds: How long it took there.
    """

    key: str | None
    taken: bool
    fitted_by: str
    seconds: float


class DynamicsCache:
    """Fits on disk, each a folder with a state, its digest and a description.

    Args:
        folder: Where they lie; made when the first one is written.
        log: Takes a line for people.
    """

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self.folder = folder
        self._log = log

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keep other processes from making the same fit; waits where one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting = "dynamics model: another run is fitting the same one, waiting for it"
        with locked(lock_beside(self.folder / key), on_wait=lambda: self._log(waiting)):
            yield

    def take(self, key: str, parts: Mapping[str, Any]) -> Fit | None:
        """Put the parts where the fit left them; None, and nothing changed, where there is none."""
        store = StateStore(self.folder / key, keep=1)
        if not store.steps():
            return None
        try:
            entry = store.load(0)  # its bytes are those that `put` wrote, or it is refused
        except UserError as error:
            self._log(f"dynamics model: the cached fit is damaged ({error}): fitting again")
            return None
        restore(parts, entry["parts"])
        progress = [FitProgress(*values) for values in entry["progress"]]
        return Fit(entry["errors"], progress, entry["seconds"], entry["fitted_by"])

    def put(self, key: str, parts: Mapping[str, Any], fit: Fit, about: Mapping[str, Any]) -> None:
        """Keep a fit; a disk without space is told and harms nothing."""
        entry = {"parts": capture(parts), **fit._asdict()}
        entry["progress"] = [tuple(progress) for progress in fit.progress]
        folder = self.folder / key
        try:
            folder.mkdir(exist_ok=True)
            write_json(folder / "about.json", {**about, "fitted_by": fit.fitted_by})
            StateStore(folder, keep=1).save(entry, 0)
        except OSError as error:
            self._log(f"dynamics model: cannot keep the fit ({error}): training goes on")


def cache_folder(config: ModelBasedConfig) -> Path | None:
    """Where the fits of a run's configuration are kept; None where the cache is off.

    It is for an ensemble of the user's own, whose code no key tells.
    """
    if config.dynamics_cache in ("", OFF) or config.dynamics != "learned":
        return None
    if config.dynamics_cache == AUTO:
        return Path(config.log_root or ROOT_DIR) / FOLDER
    return Path(config.dynamics_cache).expanduser()


def check_cache(config: ModelBasedConfig) -> None:
    """Find a wrong path before a run folder exists.

    Raises:
        UserError: `--dynamics-cache` names no folder that can be written to.
    """
    folder = cache_folder(config)
    if folder is None or config.dynamics_cache == AUTO:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UserError(
            f"--dynamics-cache {config.dynamics_cache}: no folder that can be written to; "
            "give another one, auto or off"
        )


def parts_of(dynamics: EnsembleDynamics) -> dict[str, Any]:
    """Everything a fit changes, by name."""
    assert dynamics.generator is not None  # torch's global one would be everybody's
    own = {"model": dynamics.model, "optim": dynamics.optim, "generator": dynamics.generator}
    return own | dynamics.fitted()


def ingredients(
    dynamics: EnsembleDynamics,
    rows: Mapping[str, torch.Tensor],
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that decides what a fit gives that is told `settings`."""
    here = machine(rows["observations"].device)
    return {
        "seed": seed,
        "settings": dict(settings),
        "rows": digest(rows),
        "start": digest(capture(parts_of(dynamics))),
        "layers": digest(_layers(parts_of(dynamics))),
        "code": _code_digest(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "machine": {name: here[name] for name in _ROUNDING},
    }


def key_of(about: Mapping[str, Any]) -> str:
    """The cache's name for a fit with these ingredients."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def digest(content: Any) -> str:
    """SHA-256 of tensors and plain values in dicts and lists."""
    total = hashlib.sha256()
    _feed(total, content)
    return total.hexdigest()


def _feed(total: Any, content: Any) -> None:
    if isinstance(content, torch.Tensor):
        array = np.ascontiguousarray(content.detach().cpu().numpy())
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.data)
    elif isinstance(content, Mapping):
        total.update(f"{{{len(content)}".encode())
        for name, value in content.items():
            total.update(f"{name!r}:".encode())
            _feed(total, value)
    elif isinstance(content, (list, tuple)):
        total.update(f"[{len(content)}".encode())
        for value in content:
            _feed(total, value)
    else:
        total.update(f"{content!r},".encode())


def _layers(parts: Mapping[str, Any]) -> list[Any]:
    """What networks are told and no state dict shows, weight decay above all."""
    networks = [part for part in parts.values() if isinstance(part, nn.Module)]
    return [
        (type(layer).__name__, {k: v for k, v in vars(layer).items() if isinstance(v, _PLAIN)})
        for network in networks
        for layer in network.modules()
    ]


@cache
def _code_digest() -> str:
    """SHA-256 of the sources a fit runs through: another version of them may round otherwise."""
    root, total = Path(__file__).parents[1], hashlib.sha256()
    for name in _CODE:
        total.update(name.encode() + (root / name).read_bytes())
    return total.hexdigest()
