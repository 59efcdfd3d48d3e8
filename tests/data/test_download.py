"""The downloader against a server of our own on 127.0.0.1 that misbehaves on demand."""

import errno
import hashlib
import io
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi import data
from offlinerlkit_romi.data import download
from offlinerlkit_romi.data.archive import D4RL
from offlinerlkit_romi.errors import UserError
from tests.data.conftest import CACHES
from tests.support.data import hopper_rows, write_hdf5
from tests.support.servers import Serve, Server
from tests.support.stopping import before

TASK = "hopper-medium-v2"
NAME = "hopper_medium-v2.hdf5"


@pytest.fixture
def server(tmp_path: Path, serve: Serve) -> Server:
    body = write_hdf5(tmp_path / "origin.hdf5", hopper_rows(3000)).read_bytes()
    facts = {"file": NAME, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return serve(D4RL, {"base_url": "", "files": {TASK: facts}}, body)


def folder() -> Path:
    return D4RL.cached_path(TASK).parent


def left_over() -> list[str]:
    return sorted(path.name for path in folder().iterdir() if not path.name.endswith(".lock"))


def test_download_is_verified_cached_and_read(server: Server) -> None:
    told: list[str] = []
    first = data.load(TASK, notify=told.append)
    assert first.info.source == "d4rl" and len(first) == 3000
    assert first.info.sha256 == hashlib.sha256(server.body).hexdigest()
    assert "verified" in first.info.notes[0] and "trying http://127.0.0.1" in told[0]
    assert left_over() == [NAME]
    data.load(TASK, "d4rl")
    assert len(server.ranges) == 1  # the second load asked nobody


def test_progress_bar_counts_bytes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    D4RL.fetch(TASK)
    text = capsys.readouterr().err
    assert NAME in text and "100%" in text and "B/s" in text


def test_broken_connections_are_resumed_where_they_broke(server: Server) -> None:
    server.plan = ["break", "break", "nothing"]
    path, _ = D4RL.fetch(TASK, progress=False)
    assert path.read_bytes() == server.body
    half = len(server.body) // 2
    assert server.ranges[:2] == [None, f"bytes={half}-"]
    assert server.ranges[2] == server.ranges[3] != server.ranges[1]


def test_download_left_by_a_killed_process_is_resumed(server: Server) -> None:
    folder().mkdir()
    part = folder() / f"{NAME}.part"
    part.write_bytes(server.body[:1000])
    path, _ = D4RL.fetch(TASK, progress=False)
    assert server.ranges == ["bytes=1000-"] and path.read_bytes() == server.body
    assert left_over() == [NAME]


def test_server_without_ranges_starts_over(server: Server) -> None:
    server.knows_ranges = False
    server.plan = ["break"]
    path, _ = D4RL.fetch(TASK, progress=False)
    assert path.read_bytes() == server.body


def test_connection_that_keeps_breaking_is_given_up_and_can_go_on_later(server: Server) -> None:
    server.plan = ["break", *["nothing"] * 3]
    with pytest.raises(UserError, match=r"cannot download .*connection broke.*mirror"):
        D4RL.fetch(TASK, progress=False)
    assert left_over() == [f"{NAME}.part"]
    assert D4RL.fetch(TASK, progress=False)[0].read_bytes() == server.body


def test_file_of_another_size_is_refused_before_it_is_fetched(server: Server) -> None:
    server.body += b"more"
    with pytest.raises(UserError, match="it is another file"):
        D4RL.fetch(TASK, progress=False)
    assert left_over() == []


def test_wrong_checksum_leaves_nothing(server: Server) -> None:
    server.body = bytes(len(server.body))
    with pytest.raises(UserError, match=r"is not the expected file .*sha256.* removed"):
        data.load(TASK, progress=False)
    assert left_over() == []


@pytest.mark.parametrize("content", [b"short", None])
def test_spoiled_cached_file_is_named(server: Server, content: bytes | None) -> None:
    folder().mkdir()
    (folder() / NAME).write_bytes(content or bytes(len(server.body)))
    with pytest.raises(
        UserError, match=rf"{NAME} has .* instead of .*delete it and fetch it again"
    ):
        data.load(TASK, progress=False)
    assert D4RL.fetch(TASK, progress=False, force=True)[0].read_bytes() == server.body


def test_full_disk_is_said_and_cleaned_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, block: Any) -> int:
            super().write(block[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, mode.replace("b", "")))
    with pytest.raises(UserError, match=r"no space left on the disk .*D4RL_DATASET_DIR"):
        D4RL.fetch(TASK, progress=False)
    assert left_over() == []


def test_disk_too_small_is_said_before_anything_is_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="no space left"):
        D4RL.fetch(TASK, progress=False)
    assert server.ranges == []


def test_no_network_ends_d4rl_and_lets_auto_generate(offline: None) -> None:
    with pytest.raises(UserError, match=r"cannot download .*refused.*use generated data"):
        data.load(TASK, "d4rl", progress=False)
    told: list[str] = []
    loaded = data.load(TASK, transitions=50, progress=False, notify=told.append)
    assert loaded.info.source == "generated" and len(loaded) == 50
    assert "D4RL's file is not available here" in loaded.info.notes[0]
    assert "not comparable with published ones" in loaded.info.notes[1]
    assert "using 50 transitions generated" in told[-1]


def test_name_that_does_not_resolve_is_given_up_quickly(mirror: Callable[..., None]) -> None:
    mirror(D4RL, "http://data.invalid/")
    never = threading.Event()
    late = pytest.raises(UserError, match=r"cannot reach data.invalid .*in time")
    with before(socket, "getaddrinfo", lambda *args, **_: never.wait(30)), late:
        D4RL.fetch(TASK, timeout=0.05, progress=False)
    never.set()


def test_read_only_folder_lets_auto_generate(caches: Path) -> None:
    (caches / CACHES["D4RL_DATASET_DIR"]).write_text("in the way, as a disk without writing is")
    with pytest.raises(UserError, match=f"cannot create the folder {caches}/d4rl"):
        data.load(TASK, "d4rl")
    assert data.load(TASK, transitions=50, progress=False).info.source == "generated"


def test_registry_covers_every_task_with_whole_digests() -> None:
    from offlinerlkit_romi.envs.tasks import task_names

    for task in task_names("d4rl-mujoco"):
        remote = D4RL.remote_of(task)
        assert remote.url.startswith("http://rail.eecs.berkeley.edu/") and remote.size > 10**7
        assert len(remote.digest) == 64 and D4RL.task_of(remote.digest) == task
        assert remote.url.endswith(D4RL.cached_path(task).name)
