"""Every block of the documents runs, or says why not and is looked at; links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import yaml

import offlinerlkit_romi
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.utils.log_handlers import LOG
from tests.docs.pages import DOCUMENTS, LANGUAGES, LINK, ROOT, blocks, name_of, run

README = ROOT / "README.md"
# run by tests that look at what they leave
ELSEWHERE = {"README.md", "docs/your_own_data.md", "docs/adding_an_algorithm.md"}
# the others are what commands wrote
WRITTEN = [path for path in DOCUMENTS if "results" not in path.parts]
RUN = [
    path
    for path in WRITTEN
    if any(b.language in ("python", "bash") and not b.reason for b in blocks(path.read_text()))
    and name_of(path) not in ELSEWHERE
]
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMAND = re.compile(r"^(?:\.venv/bin/)?(?:offlinerlkit-romi|python|make|pip|sed) \S", re.MULTILINE)
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture
def here(here: Path) -> Iterator[Path]:
    """A folder of one's own to run in, where pictures go nowhere."""
    handlers = list(LOG.handlers)  # a page sends lines elsewhere
    matplotlib.use("Agg")
    yield here
    LOG.handlers = handlers


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_blocks_of_a_page_run_in_their_order(page: Path, here: Path) -> None:
    run(page.read_text("utf-8"))


def test_the_pages_that_run_are_those_for_newcomers() -> None:
    assert {"docs/index.md", "docs/runs.md"} <= set(map(name_of, RUN))


@pytest.mark.slow
def test_the_readmes_blocks_run_and_leave_what_they_say(here: Path) -> None:
    first, own = [b for b in blocks(README.read_text("utf-8")) if b.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(first.code, "README", "exec"), names)
    assert names["run"].algorithm == "td3bc" and names["run"].source == "generated"
    assert len(names["run"].curve) == 10 and names["action"].shape == (6,)
    exec(compile(own.code, "README", "exec"), names)
    assert set(names["summary"].estimates) >= {"fqe_settled", "behaviour"}
    action = names["policy"].select_action([[0.0, 0.0, 0.0]], deterministic=True)
    assert 0 <= action.item() <= 10


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_block_that_does_not_run_names_what_there_is(page: Path) -> None:
    for block in blocks(page.read_text("utf-8")):
        assert block.language in LANGUAGES, block
        assert block.language or not COMMAND.search(block.code), f"name the language:\n{block.code}"
        if block.language == "python":
            compile(block.code, "<page>", "exec")
        if block.language != "bash":
            continue
        for program, *words in block.commands:
            if program == "make":
                assert set(words) <= set(TARGETS), words
            elif program == "python" and words[0] != "-m":
                assert (ROOT / words[0]).is_file(), words
            else:  # `tests/test_named_commands.py` parses our own
                known = ("offlinerlkit-romi", "python", "pip", "pipx", "sed", "mkdir", "git")
                assert program in known, program


def anchors(text: str) -> set[str]:
    """What a page's headings are linked by."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", head).strip().lower() for head in HEADING.findall(plain)]
    return {title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"(?:https?|mailto):", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_the_readmes_first_screens_are_two_and_its_first_python_has_six_lines() -> None:
    text = README.read_text("utf-8")
    start = text.split("\n## Algorithms\n")[0]
    assert start.count("\n") <= 60
    (first,) = [b for b in blocks(start) if b.language == "python"]
    assert len([line for line in first.code.splitlines() if line]) == 6
    assert 'preset="smoke"' in first.code and not first.reason


def test_the_readme_lists_every_algorithm_with_its_page() -> None:
    text = README.read_text("utf-8")
    listed = re.findall(r"^\| \[[^]]+\]\((docs/algorithms/\w+\.md)\) \| `(\w+)` \|", text, re.M)
    assert set(ALGORITHMS) == {name for _, name in listed}
    assert all(page == f"docs/algorithms/{name}.md" for page, name in listed)


def test_the_reference_has_every_name_of_the_front_door() -> None:
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs/reference.md").read_text("utf-8"), re.M)
    wanted = {f"{module}.{name}" for module, name in offlinerlkit_romi._FRONT_DOOR.values()}
    assert wanted - set(listed) == set()


def test_badges_say_what_the_project_says() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")

    def said(name: str) -> Any:
        badge = (ROOT / f"docs/badges/{name}.svg").read_text("utf-8")
        found = re.search(r"<title>\w+: (.+?)</title>", badge)
        assert found
        return found[1].replace("&gt;", ">")

    assert f'requires-python = "{said("python")}"' in project
    assert f'"torch{said("torch")}"' in project
    assert f'license = "{said("licence")}"' in project
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["license"] == said("licence")
