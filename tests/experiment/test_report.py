"""A report says what the runs say, mixes nothing, and refuses what is broken in one line."""

import json
import re
import shutil

import numpy as np
import pytest

import offlinerlkit_romi
from offlinerlkit_romi import cli
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.folder import MANIFEST, PROGRESS, RunFolder
from offlinerlkit_romi.experiment.report.gather import Panel, gather
from offlinerlkit_romi.experiment.report.items import GREY, Cell, Table
from offlinerlkit_romi.experiment.report.scores import widest
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TASK, TINY_SETTINGS
from tests.support.made_up import TASKS, study
from tests.support.runs import make_run

pytest.importorskip("jinja2")
pytest.importorskip("scipy")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def table(out, name):
    """The rows of a Markdown table by its first two cells."""
    text = (out / "tables" / f"{name}.md").read_text()
    lines = [line.strip("| \n").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return {tuple(x.strip() for x in line[:2]): [x.strip() for x in line] for line in lines[2:]}


def data_of(page):
    text = page.read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def report(runs, out, capsys, *words):
    """The status and what was said of it."""
    status = cli.main(["report", str(runs), "--output", str(out), "--no-figures", *words])
    return status, capsys.readouterr().err


def test_tables_hold_last_mean_of_ten_and_the_oracles_best(tmp_path, out):
    for seed in range(3):
        make_run(tmp_path / "log", "mopo", seed, [100.0, *range(seed, seed + 12)])
    offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    row = table(out, "scores")[TASK, "mopo"]
    assert row[2:6] == ["3", "12.0 ± 1.0", "7.5 ± 1.0", "7.5 [6.5, 8.5]"]
    assert row[6] == "~~100.0 ± 0.0~~" and row[7] == "1,300"
    assert "an oracle's number" in (out / "tables" / "scores").with_suffix(".md").read_text()
    latex = (out / "tables" / "scores.tex").read_text()
    assert r"best (oracle)" in latex and r"\textcolor{gray}{100.0 $\pm$ 0.0}" in latex
    assert latex.count("{") == latex.count("}") and "±" not in latex


def test_the_page_needs_nothing_beside_itself_and_every_figure_lies_beside_it(tmp_path, out):
    page = offlinerlkit_romi.report(study(tmp_path / "log", TASKS[:1], ("iql", "romi")), out)
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', text) and "@import" not in text
    charts = data_of(page)["charts"]
    names = {name.split("-")[1] for name in charts}
    assert not list(out.rglob("*.partial"))
    assert {"scores", "curves", "q_values", "gradients", "weights", "model_error"} <= names
    for name in names:
        assert (out / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (out / "figures" / f"{name}.pdf").read_bytes()[:4] == b"%PDF"
    curve = charts["0-curves-0"]
    assert [s["algo"] for s in curve["series"]] == sorted({s["algo"] for s in curve["series"]})
    assert len(curve["series"][0]["x"]) == 40 and curve["log"] is False


def test_sources_get_parts_of_their_own_and_share_no_table(tmp_path, out):
    make_run(tmp_path / "log", "mopo", 0, [10.0] * 10)
    make_run(tmp_path / "log", "romi", 0, [20.0] * 10, data={"source": "d4rl"})
    page = offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    assert "2 sources of data" in page.read_text()
    tables = {path.stem: path.read_text() for path in (out / "tables").glob("*.md")}
    assert not [name for name, text in tables.items() if "mopo" in text and "romi" in text]
    assert "romi" in tables["d4rl-data_last10"] and "D4RL data" in tables["d4rl-data_last10"]
    assert "mopo" in tables["generated-data-not-d4rl_last10"]
    for chart in data_of(page)["charts"].values():
        assert len({series["algo"] for series in chart["series"]}) == 1


def test_other_settings_of_one_name_and_other_data_of_one_task_are_told_apart(tmp_path):
    for seed in (0, 1):
        for xi in (0.1, 1.0):
            make_run(tmp_path, "romi", seed, [xi] * 3, xi=xi)
    make_run(tmp_path, "romi", 0, [5.0] * 3, xi=0.1, data={"sha256": "b" * 64})
    found = gather([str(tmp_path)])
    (panels,) = found.sections.values()
    assert [panel.task for panel in panels] == [
        f"{TASK} [data sha256 aaaaaaaaaaaa]",
        f"{TASK} [data sha256 bbbbbbbbbbbb]",
    ]
    assert list(panels[0].runs) == ["romi (xi 0.1)", "romi (xi 1.0)"]
    assert found.notes == [f"{TASK}: runs that differ in data sha256 are kept apart"]


def test_of_two_runs_of_one_seed_the_finished_one_counts_and_the_other_is_told(tmp_path):
    kept = make_run(tmp_path, "mopo", 0, [1.0] * 3)
    other = make_run(tmp_path, "mopo", 0, [2.0], status="unfinished")
    found = gather([str(tmp_path)])
    assert [record.run.path for record in found.records] == [kept]
    assert "there twice" in found.notes[0] and str(other) in found.notes[0]


def test_unfinished_and_diverged_runs_are_shown_and_in_no_score(tmp_path, out):
    make_run(tmp_path / "log", "mopo", 0, [10.0] * 3)
    make_run(tmp_path / "log", "mopo", 1, [90.0] * 2, status="unfinished")
    make_run(tmp_path / "log", "mopo", 2, [90.0], status="diverged")
    page = offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    row = table(out, "scores")[TASK, "mopo"]
    assert row[2] == "1 of 3" and row[4] == "10.0"
    text = page.read_text()
    assert "stopped after step 200" in text and "diverged after step 100" in text
    assert "In no score, for they have not finished: 2 of 3 runs" in text
    assert data_of(page)["charts"]["0-curves-0"]["series"][0]["y"][0] == pytest.approx(63.333)


def test_only_runs_without_a_score_still_make_a_page(tmp_path, out):
    make_run(tmp_path / "log", "mopo", 0, [], status="unfinished")
    text = offlinerlkit_romi.report(tmp_path / "log", out, figures=False).read_text()
    assert "No finished run has a score yet." in text and "stopped after step 0" in text


def test_a_published_number_is_grey_with_the_reason_unless_data_and_schedule_are_the_same(
    tmp_path, out
):
    same = {"epoch": 10, "step_per_epoch": 100_000}
    make_run(tmp_path / "log", "romi", 0, [30.0] * 10, data={"source": "d4rl"}, **same)
    make_run(tmp_path / "log", "mopo", 0, [30.0] * 10)
    offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    (row,) = table(out, "d4rl-data_published").values()
    assert row == [TASK, "romi", "ROMI paper, Table 1", "", "30.0", "38.4 ± 4.1"]
    (row,) = table(out, "generated-data-not-d4rl_published").values()
    told = "other data: generated, not d4rl, other schedule: 8 policy steps, not 1,000,000"
    assert row[2:] == ["~~ROMI paper, Table 1~~", f"~~{told}~~", "30.0", "~~36.7~~"]


def test_a_trained_run_shows_what_happened_inside(tiny_data, tmp_path, out):
    train("romi", **TINY_SETTINGS["romi"], log_root=str(tmp_path / "log"))
    charts = data_of(offlinerlkit_romi.report(tmp_path / "log", out, figures=False))["charts"]
    by_block = {}
    for name, chart in charts.items():
        by_block.setdefault(name.split("-")[1], []).append(chart)
    (q,), (weights,), (error,) = (by_block[x] for x in ("q_values", "weights", "model_error"))
    assert q["marks"]["bound"] == pytest.approx(_bound(tmp_path / "log"), rel=1e-3)
    assert {s["label"] for s in q["series"]} == {"romi, data", "romi, model"}
    assert [sum(s["y"]) for s in weights["series"]] == pytest.approx([1.0, 1.0], abs=1e-3)
    assert weights["series"][0]["x"] == pytest.approx(np.arange(0.575, 2, 0.15).tolist())
    assert error["series"][0]["x"] == [1.0, 2.0] and not error["series"][0]["dashed"]
    titles = [chart["title"] for chart in by_block["gradients"]]
    assert f"weighting · {TASK}" in titles and f"actor · {TASK}" in titles
    assert all(value > 0 for c in by_block["gradients"] for s in c["series"] for value in s["y"])
    assert float(table(out, "speed")[TASK, "romi"][-2]) > 0  # GB


def _bound(log):
    (path,) = log.rglob(MANIFEST)
    return RunFolder(path.parents[1]).manifest["q_bound"]


def test_robustness_holds_the_conditions_that_all_tested_runs_share(tmp_path, out):
    study(tmp_path / "log", tasks=("hopper-medium-v2",), algorithms=("romi", "iql"))
    tested = sorted((tmp_path / "log").rglob("robustness.csv"))[0]
    lines = tested.read_text().splitlines()
    tested.write_text("\n".join(line for line in lines if not line.startswith("mass:0.8")) + "\n")
    page = offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    charts = [c for name, c in data_of(page)["charts"].items() if "-robustness-" in name]
    assert [chart["title"].split(" ")[0] for chart in charts] == ["gaussian", "mass"]
    assert charts[1]["series"][0]["x"] == [1.0, 1.2] and len(charts[1]["series"]) == 2


def test_estimates_are_ranked_against_the_scores_they_stand_for(tmp_path, out):
    values = {"estimate/fqe": [1.0, 3.0, 2.0, 4.0]}
    folder = make_run(tmp_path / "log", "mopo", 0, [10.0, 20.0, 30.0, 40.0], columns=values)
    pairs = [(3.0, 10.0), (2.0, 20.0), (1.0, 30.0), (None, 40.0)]
    told = {"candidates": [{"estimate": x, "score": y} for x, y in pairs]}
    (folder / "result" / "selection_model.json").write_text(json.dumps(told))
    offlinerlkit_romi.report(tmp_path / "log", out, figures=False)
    lines = (out / "tables" / "rank_correlation").with_suffix(".md").read_text().splitlines()
    rows = [[x.strip() for x in line.strip("| ").split("|")] for line in lines if "mopo" in line]
    assert rows == [
        [TASK, "mopo", "FQE estimate", "4", "0.80"],
        [TASK, "mopo", "select --by model", "3", "-1.00"],
    ]


def test_algorithms_and_tasks_are_compared_where_there_is_a_score_for_every_pair(tmp_path):
    tasks = ("hopper-medium-v2", "walker2d-medium-v2", "halfcheetah-medium-v2")
    for number, task in enumerate(tasks):
        for algo in ("romi", "mopo", *(["bc"] if not number else [])):
            make_run(tmp_path, algo, 0, [1.0], task=task)
    (panels,) = gather([str(tmp_path)]).sections.values()
    labels, common = widest(panels)
    assert labels == ["mopo", "romi"] and {panel.task for panel in common} == set(tasks)
    assert widest([Panel("t", ())]) == ([], [])


@pytest.mark.parametrize("lost", [MANIFEST, PROGRESS])
def test_a_run_folder_half_deleted_is_refused_by_its_name(tmp_path, out, capsys, lost):
    make_run(tmp_path / "log", "mopo", 0, [1.0])
    folder = make_run(tmp_path / "log", "mopo", 1, [1.0])
    (folder / lost).unlink()
    (folder / "record" / "config.json").touch()
    status, said = report(tmp_path / "log", out, capsys)
    assert status == 2 and said == (
        f"error: {folder} lacks its {lost}: put it back, or move the folder away\n"
    )
    assert not out.exists()


def test_nothing_to_report_on_is_one_line(tmp_path, out, capsys):
    (tmp_path / "log").mkdir()
    status, said = report(tmp_path / "log", out, capsys)
    assert status == 2 and said.startswith(f"error: no run in {tmp_path / 'log'}")
    assert cli.main(["report", "--output", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: report on what?")
    folder = make_run(tmp_path / "log", "mopo", 0, [1.0])
    (folder / "result" / "summary.json").write_text("{")
    status, said = report(tmp_path / "log", out, capsys)
    assert status == 2 and said.count("\n") == 1 and "summary.json is damaged" in said
    assert not out.exists()


def test_an_output_that_is_no_folder_is_one_line(tmp_path, out, capsys):
    make_run(tmp_path / "log", "mopo", 0, [1.0])
    out.write_text("")
    status, said = report(tmp_path / "log", out, capsys)
    assert status == 2 and said.count("\n") == 1 and str(out) in said


def test_a_missing_package_is_told_with_its_remedy(tmp_path, out, installed):
    installed(jinja2=None)
    with pytest.raises(UserError, match=r"needs jinja2: pip install 'offlinerlkit-romi\[report\]'"):
        offlinerlkit_romi.report(tmp_path, out)


def test_a_sweeps_trials_are_runs_and_the_command_writes_what_the_function_writes(
    tmp_path, out, capsys
):
    make_run(tmp_path / "one", "mopo", 0, [1.0])
    make_run(tmp_path / "sweep" / "trial_1", "romi", 0, [2.0])
    words = ["--sweep", str(tmp_path / "sweep"), "--title", "Rows & <columns>"]
    assert report(tmp_path / "one", out, capsys, *words) == (0, "")
    text = (out / "report.html").read_text()
    assert "Rows &amp; &lt;columns&gt;" in text and "2 runs (2 finished) of 2 algorithms" in text
    shutil.rmtree(out)
    offlinerlkit_romi.report(tmp_path / "one", out, sweep=tmp_path / "sweep", figures=False)
    assert "2 runs (2 finished) of 2 algorithms" in (out / "report.html").read_text()


def test_a_tables_text_is_safe_in_markdown_and_latex():
    odd = Table("t", "a_b & 50 %", ["x|y", "z"], [[Cell("a|b"), Cell("1 ± 2", 1.0, GREY)]], left=1)
    assert "| a/b | ~~1 ± 2~~ |" in odd.markdown()
    assert r"\caption{a\_b \& 50 \%}" in odd.latex()
