"""A benchmark's own files: found where they are kept, or downloaded there and verified."""

import os
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from offlinerlkit_romi.data.download import Remote, UnavailableError, download, is_digest, verify
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import file_digest, folder_of, make_folder
from offlinerlkit_romi.system.locks import lock_beside, locked


@cache
def read_registry(name: str) -> dict[str, Any]:
    """The shipped list of a benchmark's files: `base_url` and, by task, `files`."""
    import yaml

    text = files("offlinerlkit_romi.data").joinpath(name).read_text()
    registry: dict[str, Any] = yaml.safe_load(text)
    return registry


@dataclass(frozen=True)
class Archive:
    """The files of one benchmark on their server and on this machine.

    Attributes:
        listed: Shipped list of files; each has `file`, its digest (`sha256` or `md5`), and
            `bytes` and `folder` (on the server, under the base address) where they are known.
        folder_variable: Environment variable that names the folder that holds them here.
        default_folder: Where they are without it.
        url_variable: Environment variable that names a mirror.
    """

    listed: str
    folder_variable: str
    default_folder: str
    url_variable: str

    def registry(self) -> dict[str, Any]:
        """The list of files."""
        return read_registry(self.listed)

    def folder(self) -> Path:
        """The folder that holds them here."""
        return folder_of(self.folder_variable, self.default_folder)

    def cached_path(self, task: str) -> Path:
        """Where the file of `task` is or will be."""
        return self.folder() / self._facts(task)["file"]

    def remote_of(self, task: str) -> Remote:
        """Address, size and digest of a file, on the benchmark's server or the mirror."""
        facts = self._facts(task)
        mirror = os.environ.get(self.url_variable)
        base = mirror or self.registry()["base_url"] + facts.get("folder", "")
        algorithm = "md5" if "md5" in facts else "sha256"
        return Remote(
            url=f"{base.rstrip('/')}/{facts['file']}",
            size=facts.get("bytes"),
            digest=facts[algorithm],
            algorithm=algorithm,
            variable=self.folder_variable,
            remedy=(
                f"put the file at {self.cached_path(task)}, set {self.url_variable} to a mirror, "
                "or use generated data"
            ),
        )

    def fetch(
        self, task: str, *, timeout: float = 20.0, progress: bool = True, force: bool = False
    ) -> tuple[Path, str]:
        """The verified file of `task` and its sha256, downloaded if it is not cached.

        Args:
            task: The task's name.
            timeout: Seconds to wait for a connection or the next bytes.
            progress: Show a progress bar on stderr.
            force: Download again what is cached.

        Raises:
            UnavailableError: It is not cached and cannot be downloaded.
            UserError: The cached file, or the server's, is not the benchmark's; or the disk is
                full.
        """
        path, remote = self.cached_path(task), self.remote_of(task)
        if force or not path.exists():
            try:
                make_folder(path.parent, self.folder_variable)
            except UserError as error:  # a shared, read-only folder that lacks this file
                raise UnavailableError(error.cause, error.remedy) from error
            with locked(lock_beside(path)):
                if force or not path.exists():
                    found = download(remote, path, timeout=timeout, progress=progress)
                    return path, _sha256(path, remote, found)
        return path, _sha256(path, remote, verify(path, remote))

    def verified(self, task: str) -> str:
        """What is known of a fetched file, in words."""
        remote = self.remote_of(task)
        checks = ["size"] if remote.size is not None else []
        partly = ", of which only both ends are known," if "..." in remote.digest else ""
        return f"{' and '.join([*checks, remote.algorithm])}{partly} verified"

    def task_of(self, sha256: str) -> str | None:
        """Which task's file has this SHA-256, if any whose SHA-256 is known."""
        files = self.registry()["files"].items()
        known = ((task, facts["sha256"]) for task, facts in files if "sha256" in facts)
        return next((task for task, digest in known if is_digest(sha256, digest)), None)

    def _facts(self, task: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.registry()["files"][task]
        return facts


# the folder is d4rl's own
D4RL = Archive("d4rl.yaml", "D4RL_DATASET_DIR", "~/.d4rl/datasets", "OFFLINERLKIT_ROMI_D4RL_URL")
D4RL_ANTMAZE = replace(D4RL, listed="antmaze.yaml")
NEORL = Archive(
    "neorl.yaml",
    "OFFLINERLKIT_ROMI_NEORL",
    "~/.neorl/datasets",
    "OFFLINERLKIT_ROMI_NEORL_URL",
)


def _sha256(path: Path, remote: Remote, found: str) -> str:
    return found if remote.algorithm == "sha256" else file_digest(path)
