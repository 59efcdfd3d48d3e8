"""D4RL's own files: found where d4rl keeps them, or downloaded there."""

from typing import Any

from offlinerlkit_romi.data.archive import Archive, read_registry
from offlinerlkit_romi.data.folders import D4RL_VARIABLE, d4rl_folder

URL_VARIABLE = "OFFLINERLKIT_ROMI_D4RL_URL"


def _registry() -> dict[str, Any]:
    return read_registry("d4rl.yaml")


ARCHIVE = Archive(lambda: _registry(), d4rl_folder, D4RL_VARIABLE, URL_VARIABLE)
cached_path, remote_of = ARCHIVE.cached_path, ARCHIVE.remote_of
fetch, task_of = ARCHIVE.fetch, ARCHIVE.task_of
