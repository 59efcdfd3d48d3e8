"""The page "Adding an algorithm" works as it stands, outside the package's tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
METADATA = "qfilter-1.0.dist-info"
PAGE = (ROOT / "docs/adding_an_algorithm.md").read_text("utf-8")


def install(folder: Path, project: str) -> None:
    """Leave what an installer leaves of a project's entry points."""
    group = project.split('entry-points."')[1]
    place = folder / METADATA
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: qfilter\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text("[" + group.replace('"', ""))


def forget(known: frozenset[str] = frozenset(ALGORITHMS)) -> None:
    """As in a process that has registered nothing."""
    for name in set(ALGORITHMS) - known:
        del ALGORITHMS[name]
    vars(ALGORITHMS).pop("_announced", None)


@pytest.mark.slow
def test_the_pages_code_runs(here: Path, import_from: Callable[..., None], capsys: Any) -> None:
    import_from([here, ROOT])
    names: dict[str, Any] = {}
    try:
        for block in blocks(PAGE):
            if block.file:
                Path(block.file).write_text(block.code)
            elif block.language == "python":
                exec(compile(block.code, "<page>", "exec"), names)
            elif block.language == "toml":
                install(here, block.code)
            for words in block.commands if block.language == "bash" else ():
                forget()
                assert cli.main(words[1:]) == 0, (words, capsys.readouterr().err)
        assert {path.name for path in here.glob("*.*")} >= {"qfilter.py", "qfilter.yaml"}
        assert names["policy"].softness == 2.0
        assert len(list(here.glob("log/*/qfilter*/seed_*"))) == 6
        tables = here.glob("log/hopper-medium-v2/compare/*.csv")
        assert any("qfilter" in path.read_text() for path in tables)
    finally:
        forget()
    shutil.rmtree(here / METADATA)  # what is left is what the run recorded
    program = "import sys, offlinerlkit_romi as romi; print(romi.evaluate(sys.argv[1], 1).algo)"
    words = [sys.executable, "-c", program, names["summary"].run_dir]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.strip() == "qfilter", done.stderr
