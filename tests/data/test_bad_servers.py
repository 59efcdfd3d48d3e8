"""Every benchmark's files from a server on 127.0.0.1 that answers as servers do on a bad day."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.data.archive import Archive
from offlinerlkit_romi.data.benchmarks import ORIGINS
from offlinerlkit_romi.data.download import UnavailableError
from offlinerlkit_romi.envs.tasks import TASKS
from offlinerlkit_romi.errors import UserError
from tests.support.servers import Serve, Server

BODY = bytes(range(256)) * 2000
FIRST_TASK = {
    family: next(t.name for t in TASKS.values() if t.family == family) for family in ORIGINS
}


@dataclass
class Site:
    """A benchmark's first task, whose file is `BODY`, and the server that has it."""

    task: str
    archive: Archive
    server: Server

    @property
    def path(self) -> Path:
        return self.archive.cached_path(self.task)

    def fetch(self, timeout: float = 20.0) -> bytes:
        return self.archive.fetch(self.task, timeout=timeout, progress=False)[0].read_bytes()

    def left(self) -> list[str]:
        files = self.path.parent.iterdir() if self.path.parent.exists() else ()
        return sorted(path.name for path in files if not path.name.endswith(".lock"))


@pytest.fixture(params=list(ORIGINS))
def site(request: pytest.FixtureRequest, serve: Serve) -> Site:
    archive, task = ORIGINS[request.param].archive, FIRST_TASK[request.param]
    registry = archive.registry()
    facts = dict(registry["files"][task])
    for algorithm in ("sha256", "md5"):
        if algorithm in facts:
            facts[algorithm] = hashlib.new(algorithm, BODY).hexdigest()
    if "bytes" in facts:
        facts["bytes"] = len(BODY)
    changed = {**registry, "files": {**registry["files"], task: facts}}
    return Site(task, archive, serve(archive, changed, BODY))


def knows_size(site: Site) -> bool:
    return site.archive.remote_of(site.task).size is not None


def test_a_good_day(site: Site) -> None:
    assert site.fetch() == BODY and site.left() == [site.path.name]


@pytest.mark.parametrize("code", [403, 404, 500, 503])
def test_a_refusal_ends_the_command_with_2_one_line_and_nothing_left(
    site: Site, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    site.server.plan = [code]
    assert cli.main(["data", "fetch", "--task", site.task]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"answers {code}" in error and str(site.path) in error and site.path.name in error
    assert "mirror" in error
    assert site.archive.url_variable in error and site.left() == []


def test_a_slow_server_is_waited_for(site: Site) -> None:
    site.server.plan = ["drip"]
    assert site.fetch() == BODY and len(site.server.ranges) == 1


def test_a_server_that_stalls_is_asked_again_for_the_rest(site: Site) -> None:
    site.server.plan = ["stall"]
    assert site.fetch(timeout=1.0) == BODY
    assert site.server.ranges[:2] == [None, f"bytes={len(BODY) // 2}-"]


def test_a_server_that_breaks_half_way_is_asked_again_for_the_rest(site: Site) -> None:
    site.server.plan = ["break"]
    assert site.fetch() == BODY
    assert site.server.ranges == [None, f"bytes={len(BODY) // 2}-"]


def test_a_truncated_answer_without_a_length_never_becomes_the_file(site: Site) -> None:
    site.server.plan = ["cut"]
    if knows_size(site):
        assert site.fetch() == BODY
    else:
        with pytest.raises(UserError, match="is not the expected file"):
            site.fetch()
        assert site.left() == []


def test_other_bytes_of_the_same_length_are_removed(site: Site) -> None:
    site.server.body = bytes(len(BODY))
    with pytest.raises(UserError, match=r"is not the expected file .*was removed") as caught:
        site.fetch()
    assert "\n" not in str(caught.value) and site.left() == []


def test_a_page_of_words_instead_of_the_file_is_refused(site: Site) -> None:
    site.server.body = b"<html>this dataset has moved</html>"
    with pytest.raises(UserError, match=r"another file|not the expected file"):
        site.fetch()
    assert site.left() == []


def test_a_redirection_to_an_unlisted_host_is_not_followed(site: Site) -> None:
    site.server.plan = ["http://elsewhere.invalid/file"]
    with pytest.raises(UnavailableError, match=r"redirects to http://elsewhere.*not followed"):
        site.fetch()
    assert site.left() == []


@pytest.mark.parametrize("family", list(ORIGINS))
def test_every_listed_file_comes_from_its_benchmarks_own_host(
    family: str,
) -> None:
    archive = ORIGINS[family].archive
    hosts = {"d4rl-mujoco": "rail.eecs.berkeley.edu", "neorl": "datasets.polixir.site"}
    for task in (task for task in TASKS.values() if task.family == family):
        remote: Any = archive.remote_of(task.name)
        host = hosts.get(family, "rail.eecs.berkeley.edu")
        assert remote.url.partition("//")[2].startswith(f"{host}/")
        assert remote.digest and remote.algorithm in ("sha256", "md5")
