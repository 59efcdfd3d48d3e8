"""What a run was: code, machine, data, settings. Written before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine.device import machine
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.own_data import record_of
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.system.machine import versions


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


def describe_config(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Each setting's value beside its source."""
    return {
        name: {"value": value, "source": resolved.sources[name]}
        for name, value in as_dict(resolved.config).items()
    }
