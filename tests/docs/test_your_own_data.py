"""The code of the page "Your own data" and of the README's section runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from offlinerlkit_romi import cli

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(language, code, name of the file it is said to be or "") of every block, in order."""
    found, end = [], 0
    for match in BLOCK.finditer(text):
        paragraph = text[end : match.start()].rstrip().rpartition("\n\n")[2]
        file = re.search(r"`([\w.]+\.(?:py|yaml))`", paragraph) if match[1] != "bash" else None
        found.append((match[1], match[2], file[1] if file else ""))
        end = match.end()
    return found


def run(text: str) -> dict[str, Any]:
    """Execute a page in the working folder; returns what its Python left behind."""
    names: dict[str, Any] = {}
    for language, code, file in blocks(text):
        if file:
            Path(file).write_text(code)
        elif language == "python":
            exec(compile(code, "<page>", "exec"), names)
        else:
            assert language == "bash", language
            for line in code.splitlines():
                program, *words = shlex.split(line)
                assert program == "offlinerlkit-romi" and cli.main(words) == 0, line
    return names


@pytest.mark.slow
def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/your_own_data.md").read_text("utf-8")
    assert [(language, file) for language, _, file in blocks(page)] == [
        *[("python", "")] * 4,
        ("yaml", "tank.yaml"),
        ("python", "tank_rules.py"),
        ("bash", ""),
    ]
    names = run(page)
    shown = capsys.readouterr().out
    valve = names["policy"].select_action([[0.5, 0.1]], deterministic=True)
    assert 0 <= valve.item() <= 10
    assert set(names["summary"].returns) >= {"last", "behaviour"}
    assert "iql on tank, a file of the user's, seed 0" in shown and "FQE estimate" in shown


@pytest.mark.slow
def test_the_readmes_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "README.md").read_text("utf-8").split("### Your own data\n")[1]
    names = run(section.split("\n## ")[0])
    assert set(names["summary"].estimates) >= {"fqe_settled", "behaviour"}
    action = names["policy"].select_action([[0.0, 0.0, 0.0]], deterministic=True)
    assert 0 <= action.item() <= 10
