"""A folder of our own for every cache, and a server of our own for every benchmark."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi.data import archive as archives
from offlinerlkit_romi.data import download
from offlinerlkit_romi.data.benchmarks import ORIGINS
from tests.support.servers import Serve, Server, serving

CACHES = {
    "OFFLINERLKIT_ROMI_DATA": "generated",
    "D4RL_DATASET_DIR": "d4rl",
    "OFFLINERLKIT_ROMI_NEORL": "neorl",
    "MINARI_DATASETS_PATH": "minari",
}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test may touch the user's data."""
    for name, folder in CACHES.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    mirrors = (origin.archive.url_variable for origin in ORIGINS.values())
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", *mirrors):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Callable[[archives.Archive, str], None]:
    """From its call on a benchmark's files are looked for at this address."""
    return lambda archive, url: monkeypatch.setenv(archive.url_variable, url)


@pytest.fixture
def serve(mirror: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of one file as the mirror of a benchmark that lists these."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    with ExitStack() as running:

        def start(archive: archives.Archive, listed: dict[str, Any], body: bytes) -> Server:
            monkeypatch.setattr(archives, "read_registry", lambda name: listed)
            server = running.enter_context(serving(body))
            mirror(archive, server.url)
            return server

        yield start


@pytest.fixture
def offline(mirror: Callable[..., None]) -> None:
    """Nobody listens where D4RL's files are."""
    mirror(archives.D4RL, "http://127.0.0.1:9/")
