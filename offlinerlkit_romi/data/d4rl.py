"""D4RL's own files: found where d4rl keeps them, or downloaded there."""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from offlinerlkit_romi.data.download import Remote, UnavailableError, download, verify
from offlinerlkit_romi.data.folders import D4RL_VARIABLE, d4rl_folder, locked, make_folder
from offlinerlkit_romi.errors import UserError

URL_VARIABLE = "OFFLINERLKIT_ROMI_D4RL_URL"


@cache
def _registry() -> dict[str, Any]:
    import yaml

    registry: dict[str, Any] = yaml.safe_load(
        files("offlinerlkit_romi.data").joinpath("d4rl.yaml").read_text()
    )
    return registry


def cached_path(task: str) -> Path:
    """Where the file of `task` is or will be."""
    return d4rl_folder() / _registry()["files"][task]["file"]


def remote_of(task: str) -> Remote:
    """Address, size and digest of a file; `$OFFLINERLKIT_ROMI_D4RL_URL` names a mirror."""
    facts = _registry()["files"][task]
    base = os.environ.get(URL_VARIABLE) or _registry()["base_url"]
    return Remote(
        url=f"{base.rstrip('/')}/{facts['file']}",
        size=facts["bytes"],
        sha256=facts["sha256"],
        variable=D4RL_VARIABLE,
        remedy=(
            f"put the file at {cached_path(task)}, set {URL_VARIABLE} to a mirror, "
            "or use generated data"
        ),
    )


def fetch(
    task: str, *, timeout: float = 20.0, progress: bool = True, force: bool = False
) -> tuple[Path, str]:
    """The verified file of `task` and its sha256, downloaded if it is not cached.

    Args:
        task: D4RL's task name.
        timeout: Seconds to wait for a connection or the next bytes.
        progress: Show a progress bar on stderr.
        force: Download again what is cached.

    Raises:
        UnavailableError: It is not cached and cannot be downloaded.
        UserError: The cached file, or the server's, is not D4RL's; or the disk is full.
    """
    path, remote = cached_path(task), remote_of(task)
    if force or not path.exists():
        try:
            make_folder(path.parent, D4RL_VARIABLE)
        except UserError as error:  # a shared, read-only folder that lacks this file
            raise UnavailableError(str(error)) from error
        with locked(path):
            if force or not path.exists():
                download(remote, path, timeout=timeout, progress=progress)
                return path, remote.sha256
    verify(path, remote)
    return path, remote.sha256


def task_of(sha256: str) -> str | None:
    """Which task's file has this digest, if any of D4RL's."""
    known = {facts["sha256"]: task for task, facts in _registry()["files"].items()}
    return known.get(sha256)
