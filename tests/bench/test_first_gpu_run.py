"""The one command for a machine with a GPU, where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch

from offlinerlkit_romi.bench.command import parser
from offlinerlkit_romi.experiment.command_line import parse

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "first_gpu_run.py"


@pytest.fixture
def script(here) -> dict[str, Any]:
    """Its names; it writes into a folder of the test's."""
    return run_path(str(SCRIPT))["main"].__globals__


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_ends_in_one_line_with_status_2(tmp_path) -> None:
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no CUDA device is seen by torch here: there is nothing to run\n"
    assert list(tmp_path.iterdir()) == []


def test_its_commands_are_ones_that_the_package_knows(script) -> None:
    tests, bench, romi = (list(words) for words in script["PARTS"].values())
    assert tests[:2] == ["-m", "pytest"] and Path(tests[-1]).samefile(Path(__file__).parents[1])
    assert tests[tests.index("gpu") - 1] == "-m" and bench[:3] == [*romi[:2], "bench"]
    assert parser().parse_args(bench[3:]).device == "cuda"
    assert romi[2:4] == ["train", "romi"]
    config = parse("romi", romi[4:]).config
    assert (config.device, config.epoch, config.data) == ("cuda", 5, "generated")


def test_it_packs_what_every_part_printed_though_one_fails(script, capsys) -> None:
    weights = "from pathlib import Path; Path('gpu-run/policy.pth').write_text('weights')"
    parts = {
        "tests": ("-c", f"print('3 passed'); {weights}"),
        "bench": ("-c", "import sys; sys.exit('out of memory')"),
        "romi": ("-c", "print('score 20')"),
    }
    script |= {"PARTS": parts, "resolve_device": lambda _: torch.device("cpu")}
    assert script["main"]() == 1
    told = capsys.readouterr().out
    assert "bench  failed with status 1" in told and told.endswith("send back: gpu-run.zip\n")
    with zipfile.ZipFile("gpu-run.zip") as archive:
        read = {Path(name).name: archive.read(name).decode() for name in archive.namelist()}
    report = json.loads(read.pop("report.json"))
    assert read == {
        "tests.txt": "3 passed\n",
        "bench.txt": "out of memory\n",
        "romi.txt": "score 20\n",
    }
    assert {name: part["status"] for name, part in report["parts"].items()} == {
        **{"tests": 0, "bench": 1, "romi": 0}
    }
    assert {"versions", "machine", "cuda"} <= report.keys()
