"""A folder of our own for every cache, and a server of our own for every benchmark."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi.data import archive as archives
from offlinerlkit_romi.data import download
from tests.support.servers import Serve, Server, serving


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test may touch the user's data."""
    monkeypatch.setenv("OFFLINERLKIT_ROMI_DATA", str(tmp_path / "generated"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("OFFLINERLKIT_ROMI_NEORL", str(tmp_path / "neorl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of one file as the mirror of a benchmark that lists these."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    with ExitStack() as running:

        def start(archive: archives.Archive, listed: dict[str, Any], body: bytes) -> Server:
            monkeypatch.setattr(archives, "read_registry", lambda name: listed)
            server = running.enter_context(serving(body))
            monkeypatch.setenv(archive.url_variable, server.url)
            return server

        yield start


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where D4RL's files are."""
    monkeypatch.setenv(archives.D4RL.url_variable, "http://127.0.0.1:9/")
