"""Weights and JSON on disk: written whole or not at all, loaded whole or not at all."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.errors import UserError


def save_atomically(state: object, path: str | os.PathLike[str]) -> None:
    """Write with `torch.save` under another name, then rename: a file is whole or absent."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write a file that is whole or absent; NaN becomes null, which JSON can hold."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", "utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_state(path: str | os.PathLike[str], device: str | torch.device) -> dict[str, torch.Tensor]:
    """Read named tensors, as a module's `state_dict` saved by `torch.save`.

    Args:
        path: the file.
        device: where the tensors go.

    Raises:
        UserError: no such file, or not a state dict.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; give a folder that a run saved into") from error
    # what torch.load raises depends on where the bytes stop making sense
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"cannot read {path}: it is damaged, or no file of torch.save") from error
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise UserError(f"{path} holds no state dict: give one of named tensors")
    return dict(state)


def read_weights(
    module: nn.Module, path: str | os.PathLike[str], device: str | torch.device
) -> dict[str, torch.Tensor]:
    """Read a state dict that `module.load_state_dict` will take; the module is not changed.

    Args:
        module: whose names and shapes the file must have.
        path: a file of `torch.save`.
        device: where the tensors go.

    Raises:
        UserError: see `read_state`, or one of another network.
    """
    state = read_state(path, device)
    misfit = _misfit(module.state_dict(), state)
    if misfit:
        raise UserError(f"{path} is of another network: {misfit}; build the one it was saved from")
    return state


def _misfit(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """The first name that differs, and how; empty if all fit."""
    for name in [*own, *state]:
        if name not in state:
            return f"{name} is missing"
        if name not in own:
            return f"{name} is unknown here"
        if own[name].shape != state[name].shape:
            return f"{name} is {tuple(state[name].shape)} there, {tuple(own[name].shape)} here"
    return ""
