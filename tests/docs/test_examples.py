"""The scripts that a new user is shown run, and are typed."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.conftest import TASK, make_dataset

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "docs/examples/own_study.py"
PRIVATE = re.compile(
    r"offlinerlkit_romi\.(?:engine|experiment|data|ope|standins|bench|system)\b|\._"
)


def in_a_project_of_its_own(words: list[str], folder: Path) -> str:
    """What a command says that runs where nothing of the repository lies, the package installed.

    mypy too takes what it finds by PYTHONPATH for installed: typed by its `py.typed` alone.
    """
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_users_study_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    said = in_a_project_of_its_own([str(STUDY)], tmp_path)
    assert re.search(r"huber_bc: \d+ updates, Settled: the loss settled at 0\.\d+", said)
    assert "loss/actor" in said and "td3bc" in said
    (exported,) = re.findall(r"exported: (.*)", said)
    assert (tmp_path / exported).is_file()
    assert {path.suffix for path in (tmp_path / "comparison").iterdir()} >= {".md", ".csv", ".png"}
    updates = int(re.findall(r"huber_bc: (\d+) updates", said)[0])
    assert updates < 3000 and updates % 100 == 0


def test_a_new_users_study_imports_no_private_name() -> None:
    imports = [
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(STUDY.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert sum(name.startswith("offlinerlkit_romi.") for name in imports) > 8
    assert [name for name in imports if PRIVATE.search(name)] == []


@pytest.mark.slow
def test_users_scripts_pass_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    page = (ROOT / "docs/adding_an_algorithm.md").read_text("utf-8")
    (tmp_path / "qfilter.py").write_text(page.split("```python\n")[1].split("```")[0])
    (tmp_path / "own_study.py").write_text(STUDY.read_text("utf-8"))
    wrong = "from offlinerlkit_romi import train\n\nsummary: int = train('bc')\n"
    (tmp_path / "wrong.py").write_text(wrong)
    words = ["-m", "mypy", "--strict", "--follow-imports=silent"]
    with pytest.raises(AssertionError) as caught:
        in_a_project_of_its_own([*words, "qfilter.py", "own_study.py", "wrong.py"], tmp_path)
    assert "wrong.py:3: error: Incompatible types" in str(caught.value)
    assert "Found 1 error in 1 file (checked 3 source files)" in str(caught.value)


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_romi_by_hand_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = load(ROOT / "run_example/by_hand.py")
    schedule = {"epoch": 2, "step_per_epoch": 3, "batch_size": 8, "eval_episodes": 0}
    script.main(TASK, make_dataset(), wide=8, fit=1, every=2, **schedule)
    assert "last_10_performance" in capsys.readouterr().out
    (folder,) = here.glob(f"log/{TASK}/romi_by_hand/seed_0*")
    assert {path.name for path in (folder / "model").iterdir()} >= {"policy.pth", "dynamics.pth"}
    rows = (folder / "record/policy_training_progress.csv").read_text().splitlines()
    assert len(rows) == 3 and "romi/outer_loss" in rows[0]
