"""The page on scaling shows what its script computes from its inputs."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scaling():
    return runpy.run_path(str(ROOT / "benchmarks/scaling.py"))


def test_the_tables_of_the_page_are_those_the_script_computes(scaling):
    assert f"\n{scaling['tables'](1.0, {})}\n" in (ROOT / "docs/scaling.md").read_text("utf-8")


def test_hours_are_all_runs_over_what_runs_at_a_time(scaling):
    seconds = dict.fromkeys(scaling["ALGORITHMS"], 3.6)
    assert scaling["hours"](seconds, 1) == pytest.approx(27 * 5 * 8 * 1000 * 3.6 / 3600)
    assert scaling["hours"](seconds, 8, 2) == pytest.approx(scaling["hours"](seconds, 1) / 16)
