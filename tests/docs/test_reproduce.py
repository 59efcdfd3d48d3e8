"""The scripts of the paper's tables and figures plan what it says, and go the whole way."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest

from offlinerlkit_romi.experiment.command_line import parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "run_example" / "reproduce"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[tf]*[0-9].py"))
SEEDS = 5
RUNS = {
    **{"table1": 12 * 7 * SEEDS, "table2": 9 * 7 * SEEDS, "table5": 12 * 2 * SEEDS},
    **{"table6": 6 * 5 * SEEDS, "table7": 6 * 3 * SEEDS, "figure1": 3 * 5 * 2 * SEEDS},
    **{"figure2": 3 * 2 * SEEDS, "figure3": 3 * 8 * SEEDS},
}


@pytest.fixture
def carry_out(monkeypatch, tmp_path, capsys):
    """Calls a script with words; returns what it prints."""
    monkeypatch.syspath_prepend(str(FOLDER))  # scripts import their neighbour

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words, "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        assert left.value.code == 0
        return capsys.readouterr().out

    return call


def test_every_script_has_its_row_on_the_page_and_its_number_of_runs():
    page = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
    rows = {
        x.split("`")[1]: x.rsplit("|", 2)[1].strip() for x in page.splitlines() if ".py` |" in x
    }
    assert rows == {f"{name}.py": str(RUNS[name]) for name in SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_dry_run_prints_the_commands_of_the_papers_schedule(name, carry_out):
    lines = carry_out(name, "--dry-run", "--seeds", "1").splitlines()
    commands = [shlex.split(x)[2:] for x in lines if x.startswith("offlinerlkit-romi train ")]
    assert len(commands) == RUNS[name] // SEEDS == len(set(map(tuple, commands)))
    assert f"# {len(commands)} runs" in lines[-2]
    for algo, *words in commands[:: max(1, len(commands) // 10)]:
        config = parse(algo, words).config
        assert config.data in ("d4rl", "neorl")
        assert config.epoch * config.step_per_epoch == (5000 if name == "table5" else 1_000_000)


def test_hours_are_the_papers_seconds_per_epoch(carry_out):
    told = carry_out("table7", "--dry-run", "--tasks", "hopper-medium-replay-v2").splitlines()[-2]
    # 3 values x 5 seeds x 1000 epochs x 28.46 s
    assert told == "# 15 runs; 15 take 119 hours on one RTX A6000 (Table 5)"
    told = carry_out("table6", "--dry-run", "--seeds", "1").splitlines()[-2]
    assert told == "# 30 runs; of 30 the hours are not measured"


def test_a_quick_run_goes_the_whole_way_and_is_not_made_twice(carry_out, tmp_path):
    words = ("--quick", "--tasks", "hopper-random-v2")
    carry_out("figure2", *words)
    folder = tmp_path / "figure2"
    assert (folder / "report" / "report.html").is_file()
    table = (folder / "table").with_suffix(".md").read_text("utf-8")
    assert "romi,variant=no_weighting" in table and "generated" in table
    summaries = {path: path.stat().st_mtime_ns for path in folder.glob("log/**/summary.json")}
    assert len(summaries) == 2
    carry_out("figure2", *words)
    again = {path: path.stat().st_mtime_ns for path in folder.glob("log/**/summary.json")}
    assert again == summaries


def test_published_numbers_stand_beside_the_arm_they_belong_to(carry_out):
    table1 = runpy.run_path(str(FOLDER / "table1.py"))["EXPERIMENT"]
    assert table1.published("hopper-medium-v2", "romi") == 105.0
    assert table1.published("hopper-medium-v2", "count_morl") == 100.2
    table7 = runpy.run_path(str(FOLDER / "table7.py"))["EXPERIMENT"]
    assert table7.published("hopper-medium-replay-v2", "romi,num_perturbations=20") == 100.0
    figure3 = runpy.run_path(str(FOLDER / "figure3.py"))["EXPERIMENT"]
    assert figure3.published("hopper-medium-v2", "romi,xi=0.1") != 105.0
