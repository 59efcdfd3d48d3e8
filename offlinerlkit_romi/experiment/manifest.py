"""What a run was: code, machine, data, settings. Written before training starts."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import write_json
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.own_data import record_of
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.version import __version__

__all__ = ["describe_config", "device_name", "machine", "make_manifest", "versions", "write_json"]
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")


def make_manifest(
    resolved: Resolved, dataset: Dataset, device: torch.device, argv: Sequence[str]
) -> dict[str, Any]:
    """Collect what is needed to say whether two runs may be compared, and to repeat one."""
    info = dataset.info
    return {
        "algo": resolved.algo,
        "task": resolved.config.task,
        "seed": resolved.config.seed,
        "data": {
            "source": info.source,
            "path": info.path,
            "sha256": info.sha256,
            "transitions": len(dataset),
            "obs_dim": dataset.observations.shape[1],
            "action_dim": dataset.actions.shape[1],
            "env_version": info.env_version,
            "episodes": info.episodes,
            "behaviour_return": info.behaviour_return,
            "notes": list(info.notes),
            **record_of(dataset),
            "goal": info.goal,
        },
        "versions": versions(),
        "machine": machine(device),
        "argv": list(argv),
        "config": describe_config(resolved),
    }


def versions() -> dict[str, str | None]:
    """Of the interpreter, this package and those whose arithmetic enters a result."""
    return {
        "python": platform.python_version(),
        "offlinerlkit_romi": __version__,
        **{name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Where a run takes place, as far as it may change a last digit."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": str(device),
        "device_name": device_name(device),
    }


def describe_config(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Each setting's value beside its source."""
    return {
        name: {"value": value, "source": resolved.sources[name]}
        for name, value in as_dict(resolved.config).items()
    }


def device_name(device: torch.device) -> str:
    """The accelerator's model, or the CPU's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The package's own commit, marked where files differ from it; None outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
