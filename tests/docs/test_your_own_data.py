"""What the code of the page "Your own data" leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, blocks, run


@pytest.mark.slow
def test_the_pages_code_runs(here: Path, capsys: Any) -> None:
    page = (ROOT / "docs/your_own_data.md").read_text("utf-8")
    assert [(block.language, block.file) for block in blocks(page)] == [
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
