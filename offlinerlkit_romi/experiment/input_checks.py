"""What can be found wrong with a configuration before anything is read or made."""

from __future__ import annotations

from pathlib import Path

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.data.load import is_own
from offlinerlkit_romi.data.user import MEMORY
from offlinerlkit_romi.engine.device import resolve_device
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.dynamics_cache import check_cache


def check_input(config: RunConfig, dataset: Dataset | None) -> torch.device:
    """Find what is wrong before anything is read or made; returns the device.

    Raises:
        UserError: It is.
    """
    if dataset is None and not is_own(config.data, config.task) and config.data != MEMORY:
        get_task(config.task)
    device = resolve_device(config.device)
    _check_paths(config)
    return device


def _check_paths(config: RunConfig) -> None:
    """Find a wrong path before a run folder exists."""
    model = config.model
    if model is None:
        return
    places = [("load_dynamics_path", "dynamics.pth", model.load_dynamics_path)]
    if model.adversary is not None:
        places += [("load_bc_path", "rambo_pretrain.pth", model.adversary.load_bc_path)]
    for name, file, folder in places:
        if folder is not None and not (Path(folder) / file).is_file():
            raise UserError(
                f"--{name.replace('_', '-')} {folder}: no {file} there; "
                "give the model folder of an earlier run"
            )
    check_cache(model)
