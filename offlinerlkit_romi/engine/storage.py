"""Weights and states of a training on disk: written whole, read whole or refused.

Beside `state-<step>.pt`, a file of `torch.save` with tensors and plain values only, stands
`state-<step>.pt.sha256` in the format of sha256sum. The digest is in place before the state gets
its name, so a state without one is no state.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import file_digest, write_text, written_whole

_NAME = re.compile(r"state-(\d{12})\.pt")


def save_atomically(state: object, path: str | os.PathLike[str]) -> None:
    """Write with `torch.save`: the file is whole or absent.

    Raises:
        OSError: The disk is full or the folder read-only.
    """
    with written_whole(Path(path)) as partial:
        _save(state, partial)


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


class StateStore:
    """The states of one run.

    Args:
        folder: Where they lie; it exists.
        keep: How many of the newest to keep.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        self.folder = Path(folder)
        self._keep = keep

    def path(self, step: int) -> Path:
        """Where the state after `step` policy steps lies."""
        return self.folder / f"state-{step:012d}.pt"

    def steps(self) -> list[int]:
        """Policy steps of the states there are, oldest first."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("state-*.pt"))
        return sorted(int(found[1]) for found in names if found)

    def save(self, state: dict[str, Any], step: int) -> Path:
        """Write a state, flush it, give it its name, then drop those older than the last few.

        Raises:
            OSError: The disk is full or the folder read-only; earlier states are untouched.
        """
        path = self.path(step)
        with written_whole(path) as partial:
            _save(state, partial)
            self._write_digest(path, file_digest(partial))
        self._prune(self.steps()[-self._keep :])
        return path

    def load(self, step: int) -> dict[str, Any]:
        """Read a state back on the CPU.

        Raises:
            UserError: Its bytes are not those that were written.
        """
        path = self.path(step)
        try:
            expected = _digest_file(path).read_text("ascii").split()[0]
            found = file_digest(path)
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"{path} is refused: it or its .sha256 cannot be read") from error
        if found != expected:
            raise UserError(f"{path} is refused: its bytes are not those its .sha256 tells of")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        # what torch.load raises depends on what it finds
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.PickleError) as error:
            raise UserError(f"{path} is refused: it holds more than tensors and values") from error
        if not isinstance(state, dict):
            raise UserError(f"{path} is refused: it holds no training state")
        return state

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest intact state, None where none was ever written; and why others were refused.

        Raises:
            UserError: There are states, and not one is intact.
        """
        refusals: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self.load(step), refusals
            except UserError as error:
                refusals.append(str(error))
        if refusals:
            raise UserError(f"{refusals[0]}; no intact state is left, start the run afresh")
        return None, refusals

    def clear(self) -> None:
        """Remove every state."""
        self._prune([])

    def _write_digest(self, path: Path, digest: str) -> None:
        write_text(_digest_file(path), f"{digest}  {path.name}\n")

    def _prune(self, keep: list[int]) -> None:
        """Remove all files of states but these, what a killed process left included."""
        kept = {self.path(step).name for step in keep}
        # a state goes before its digest: killed in between, no state without one is left
        for path in sorted(self.folder.glob("state-*"), key=lambda path: path.suffix != ".pt"):
            if not any(path.name in (name, name + ".sha256") for name in kept):
                with suppress(OSError):  # a read-only folder keeps it
                    path.unlink(missing_ok=True)


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _save(state: object, path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(state, file)  # told a path, it repeats its name in every record
    except RuntimeError as error:  # the zip writer hides what the disk said
        raise OSError(f"cannot write {path.name}: {error}") from error
