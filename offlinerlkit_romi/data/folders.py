"""Where data files live, and how one is written so that no half of it is ever found."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from offlinerlkit_romi.errors import UserError

GENERATED_VARIABLE = "OFFLINERLKIT_ROMI_DATA"
D4RL_VARIABLE = "D4RL_DATASET_DIR"


def generated_folder() -> Path:
    """`$OFFLINERLKIT_ROMI_DATA`, or ~/.cache/offlinerlkit-romi."""
    return _folder(GENERATED_VARIABLE, "~/.cache/offlinerlkit-romi")


def d4rl_folder() -> Path:
    """The folder d4rl itself uses: `$D4RL_DATASET_DIR`, or ~/.d4rl/datasets."""
    return _folder(D4RL_VARIABLE, "~/.d4rl/datasets")


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


def make_folder(folder: Path, variable: str) -> None:
    """Create `folder`.

    Raises:
        UserError: It cannot be created or written to; the message names `variable`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the data folder {folder} ({error.strerror}): "
            f"set {variable} to a folder that can be written"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"cannot write to the data folder {folder}: set {variable} to one that can be written"
        )


def disk_full(path: Path, variable: str) -> UserError:
    """The error for a write that found no space."""
    return UserError(
        f"no space left on the disk for {path}: free some, or set {variable} to another disk"
    )


def again(path: Path) -> str:
    """What to do about a file that is no good: only one that was made here is ours to give up."""
    if path.parent == generated_folder():
        return "delete it, and it is generated again"
    return "write the file again"


@contextmanager
def written_whole(path: Path, variable: str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it on success, remove it on any failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # HDF5 puts the system's words into the message and leaves errno empty
        if error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
            raise disk_full(path, variable) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock beside `path`, so that of many runs started at once one prepares the file.

    Args:
        path: What is prepared.
        on_wait: Called where another process holds the lock, before waiting for it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows: work may then be done twice, never wrongly
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file, `algorithm` one of ``sha256`` and ``md5``."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
