"""The study's pages are what its script makes of the committed runs."""

import runpy
import shutil
from pathlib import Path

import pytest

from tests.support.runs import make_run

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"
TASK = "hopper-medium-v2"


@pytest.fixture
def collecting(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))  # the one script imports the other
    return runpy.run_path(str(STUDY / "collect.py"))


@pytest.fixture
def writing(collecting):
    return runpy.run_path(str(STUDY / "pages.py"))


@pytest.fixture
def made_up(tmp_path, collecting):
    """Floor 10, ceiling 30, ROMI's two seeds 20 and 25; a folder of runs.csv."""
    for arm, algo, seed, score, settings in (
        ("bc", "bc", 0, 10.0, {}),
        ("oracle", "mopo", 0, 30.0, {"dynamics": "oracle"}),
        ("romi", "romi", 0, 20.0, {}),
        ("romi", "romi", 1, 25.0, {}),
    ):
        argv = ["offlinerlkit-romi", "train", algo, "--task", TASK, "--epoch", "3"]
        argv += ["--log-root", "/somewhere", "--lr", "1"] if algo == "bc" else []
        facts = {"argv": argv}
        make_run(
            tmp_path / "log",
            algo,
            seed,
            [0.0, score, score, score, score, score],
            task=TASK,
            facts=facts,
            algo_name=arm,
            **settings,
        )
    collecting["collect"]([str(tmp_path / "log")], tmp_path)
    return tmp_path


def test_every_committed_page_is_what_the_script_makes_of_the_committed_runs(writing):
    for page, text in writing["pages"](writing["RESULTS"]).items():
        assert page.read_text("utf-8") == text, f"python benchmarks/study/pages.py: {page.name}"


def test_each_question_has_a_page_with_an_answer(writing):
    for question in writing["QUESTIONS"].values():
        text = (writing["STUDY"] / f"{question.name}.md").read_text("utf-8")
        assert writing["between"](text, "answer")


def test_a_changed_run_or_figure_changes_the_page(writing, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(writing["STUDY"], study)
    shutil.copy(writing["RESULTS"] / "index.md", tmp_path)
    page = study / "schedule.md"
    (study / "schedule.png").write_bytes(b"another")
    assert writing["pages"](tmp_path)[page] != page.read_text("utf-8")
    shutil.copy(writing["STUDY"] / "schedule.png", study)
    assert writing["pages"](tmp_path)[page] == page.read_text("utf-8")
    rows, _ = writing["read"](study)
    rows.loc[rows.question.str.contains("S"), "q_model"] += 1
    rows.to_csv(study / "runs.csv", index=False)
    assert writing["pages"](tmp_path)[page] != page.read_text("utf-8")


def test_runs_are_collected_once_however_often(made_up, collecting):
    before = [(made_up / name).read_bytes() for name in ("runs.csv", "arms.json")]
    collecting["collect"]([str(made_up / "log")], made_up)
    assert [(made_up / name).read_bytes() for name in ("runs.csv", "arms.json")] == before
    rows, arms = collecting["read"](made_up)
    assert len(rows) == 4 * 6 and set(rows.question[rows.arm == "oracle"]) == {"S 1 2 4 5 7"}
    assert arms[f"{TASK}/bc"]["command"] == "train bc --epoch 3 --lr 1"
    roles = {arm: arms[f"{TASK}/{arm}"]["role"] for arm in ("bc", "oracle", "romi")}
    assert roles == {"bc": "floor", "oracle": "ceiling", "romi": ""}


def test_an_arm_is_a_share_of_the_way_from_the_floor_to_the_ceiling(made_up, writing):
    (panel,) = writing["panels_of"]("5", *writing["read"](made_up))
    assert list(panel.arms) == ["oracle", "romi", "bc"]  # best first
    lines = writing["table_of"](writing["QUESTIONS"]["5"], panel).splitlines()
    romi = next(x for x in lines if x.startswith("| romi"))
    # (22.5 - 10) / (30 - 10)
    assert "22.5 (20.0 to 25.0)" in romi and "62 %" in romi and "(105.0)" in romi
    assert not writing["panels_of"]("2", *writing["read"](made_up))  # no arm of that question


@pytest.mark.parametrize(("values", "mean"), [([1, 2, 6], 3), ([0, 1, 3, 90], 2), ([7], 7)])
def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end(writing, values, mean):
    assert writing["interquartile"](values) == mean
