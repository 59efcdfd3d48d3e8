"""Files that are whole or absent, their digests, and folders that can be written to."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from offlinerlkit_romi.errors import UserError

BLOCK = 1 << 22


@contextmanager
def written_whole(path: Path, variable: str | None = None) -> Iterator[Path]:
    """Yield another name beside `path`; flush and rename it on success, remove it on any failure.

    Args:
        path: What is written; its folder exists.
        variable: The flag or environment variable by which the user chose the place, for the
            message when the disk is full; without one the system's error stays as it is.

    Raises:
        UserError: The disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    except OSError as error:
        # HDF5 puts the system's words into the message and leaves errno empty
        full = error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)
        if full and variable is not None:
            raise disk_full(path, variable) from error
        raise
    finally:
        with suppress(OSError):  # a read-only folder keeps it; the write's own error says so
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text that is whole or absent."""
    with written_whole(path) as partial:
        partial.write_text(text, "utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON that is whole or absent; NaN becomes null, which JSON can hold."""
    write_text(Path(path), json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, `algorithm` one of ``sha256`` and ``md5``."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def make_folder(folder: Path, variable: str) -> None:
    """Create `folder`.

    Raises:
        UserError: It cannot be created or written to; the message names `variable`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the folder {folder} ({error.strerror})",
            f"set {variable} to a folder that can be written",
        ) from error
    if not os.access(folder, os.W_OK):
        remedy = f"set {variable} to one that can be written"
        raise UserError(f"cannot write to the folder {folder}", remedy)


def folder_of(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or its default."""
    return Path(os.environ.get(variable) or default).expanduser()


def disk_full(path: Path, variable: str) -> UserError:
    """The error for a write that found no space."""
    remedy = f"free some, or set {variable} to another disk"
    return UserError(f"no space left on the disk for {path}", remedy)


def finite(content: Any) -> Any:
    """Plain values with NaN and infinities as None."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
