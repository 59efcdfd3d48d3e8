"""The documents as a site: no warning, every page in it, nothing fetched from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

# what a browser fetches by itself; a link is for whoever clicks
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*;"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    done = subprocess.run(
        words, cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_it_is_built_without_a_warning_and_has_every_page(site: Path) -> None:
    pages = {p.relative_to(ROOT / "docs").with_suffix("") for p in (ROOT / "docs").rglob("*.md")}
    built = {p.relative_to(site).with_suffix("") for p in site.rglob("*.html")}
    known = {page.with_name("index") if page.name == "README" else page for page in pages}
    assert known <= built


@pytest.mark.slow
def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    found = {file.name: FETCHED.findall(file.read_text("utf-8")) for file in files}
    assert len(files) > 20 and {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.slow
def test_the_reference_has_the_front_doors_docstrings(site: Path) -> None:
    text = (site / "reference.html").read_text("utf-8")
    for words in ("Train a policy", "Read a run back", "The curves of many runs in one frame"):
        assert words in text


@pytest.mark.parametrize(
    "fetched",
    [
        '<script src="https://unpkg.com/x"></script>',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css">',
        "@import '//cdn.example/x.css';",
        "a{background:url(http://x.example/y.png)}",
    ],
)
def test_what_is_fetched_from_elsewhere_is_seen(fetched: str) -> None:
    assert FETCHED.search(fetched)
    assert not FETCHED.search('<a href="https://arxiv.org/abs/1">') and not FETCHED.search(
        "url(x.png)"
    )
