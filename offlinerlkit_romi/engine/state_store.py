"""States of a training on disk: written whole, flushed, known by their digest, the last few kept.

Beside `state-<step>.pt`, a file of `torch.save` with tensors and plain values only, stands
`state-<step>.pt.sha256` in the format of sha256sum. The digest is in place before the state gets
its name, so a state without one is no state.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.errors import UserError

BLOCK = 1 << 22
_NAME = re.compile(r"state-(\d{12})\.pt")


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
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                _write(state, file)
                file.flush()
                os.fsync(file.fileno())
            self._write_digest(path, digest_of(partial))
            os.replace(partial, path)
            _flush_folder(self.folder)
        finally:
            _remove(partial)
        self._prune(self.steps()[-self._keep :])
        return path

    def load(self, step: int) -> dict[str, Any]:
        """Read a state back on the CPU.

        Raises:
            UserError: Its bytes are not those that were written.
        """
        path = self.path(step)
        try:
            expected = path.with_name(path.name + ".sha256").read_text("ascii").split()[0]
            found = digest_of(path)
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
        target = path.with_name(path.name + ".sha256")
        partial = target.with_name(target.name + ".partial")
        try:
            with partial.open("w", encoding="ascii") as file:
                file.write(f"{digest}  {path.name}\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            _remove(partial)

    def _prune(self, keep: list[int]) -> None:
        """Remove all files of states but these, what a killed process left included."""
        kept = {self.path(step).name for step in keep}
        # a state goes before its digest: killed in between, no state without one is left
        for path in sorted(self.folder.glob("state-*"), key=lambda path: path.suffix != ".pt"):
            if not any(path.name in (name, name + ".sha256") for name in kept):
                _remove(path)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write(state: dict[str, Any], file: Any) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # the zip writer hides what the disk said
        raise OSError(f"cannot write {file.name}: {error}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a read-only folder keeps it; the write's own error says so
        return


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
