"""The table's numbers are those of the runs; what does not belong together is refused."""

import csv
import json
import math
import re
import statistics as plain

import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.compare.records import read_record as read_run
from offlinerlkit_romi.experiment.compare.records import refuse_mixtures
from offlinerlkit_romi.experiment.compare.report import Report
from offlinerlkit_romi.experiment.compare.table import make_notes, make_rows
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.statistics import mean_curve
from offlinerlkit_romi.utils.plotter import plot_comparison
from tests.experiment.conftest import TASK
from tests.support.runs import SHA, make_run

CURVES = {
    "mopo": ([1.0, 2.0, 3.0], [2.0, 4.0, 9.0], [0.0, 1.0, 2.0]),
    "romi": ([5.0] * 12, list(range(12)), [3.0] * 12),
}


def read_record(folder):
    return read_run(RunFolder(folder))


@pytest.fixture
def records(tmp_path):
    return [
        read_record(make_run(tmp_path, algo, seed, scores))
        for algo, curves in CURVES.items()
        for seed, scores in enumerate(curves)
    ]


def test_the_tables_numbers_are_those_computed_by_hand(records):
    mopo, romi = make_rows(records)
    means = [2.0, 5.0, 1.0]
    assert mopo.label == "mopo" and mopo.seeds == [0, 1, 2] and not mopo.others
    assert mopo.score == pytest.approx(8 / 3) and mopo.std == pytest.approx(plain.stdev(means))
    assert mopo.iqm.value == pytest.approx(8 / 3)  # a quarter of three runs is none
    assert romi.score == pytest.approx((5 + np.mean(range(2, 12)) + 3) / 3)  # the last ten
    assert mopo.steps == 300 and mopo.wall_seconds == 120
    assert mopo.q_real == pytest.approx((3 + 13 + 23) / 3) and math.isnan(mopo.q_model)
    # 5 ms a step, and a rollout of 2 ms every 2 steps
    assert mopo.steps_per_second == pytest.approx(1000 / 6)


def test_without_scipy_the_table_says_the_remedy(records, installed):
    installed(scipy=None)
    assert math.isnan(make_rows(records)[0].iqm.value)
    assert "pip install 'offlinerlkit-romi[report]'" in Report(records, "").text()


def test_the_text_has_every_algorithm_the_datas_score_and_who_is_ahead(tmp_path, records):
    better = make_run(tmp_path, "iql", 0, [50.0] * 10)
    text = Report([*records, read_record(better)], "").text()
    assert text.startswith(f"{TASK}, generated data (not D4RL)\n")
    assert re.search(r"^mopo +3 +2\.7 ± 2\.1 +2\.7 \[1\.0, 5\.0\] +300 +166\.7 +2:00", text, re.M)
    assert re.search(r"^iql +1 +50\.0 +- +1,000", text, re.M)
    assert re.search(r"^the data itself +18\.4$", text, re.M)
    assert "nobody is called ahead: not the same number of finished seeds (" in text
    assert "mopo 3, romi 3, iql 1)" in text and "highest mean score" not in text
    assert "last ten evaluations (mopo has 3); mean" in text
    assert "not the same number of policy steps: mopo 300, romi 1,200, iql 1,000" in text


def test_who_is_ahead_is_told_where_all_have_as_many_seeds(records, tmp_path):
    notes = make_notes(make_rows(records), records)
    assert notes[0] == "highest mean score: romi (4.8)"
    better = [read_record(make_run(tmp_path, "iql", seed, [50.0] * 10)) for seed in range(3)]
    notes = make_notes(make_rows([*records, *better]), [*records, *better])
    assert notes[0] == "highest mean score: iql (50.0); romi (4.8) is number 2 of 3"


def test_a_diverged_and_a_stopped_run_are_shown_and_not_counted(tmp_path):
    make_run(tmp_path, "romi", 0, [1.0, 3.0])
    make_run(tmp_path, "romi", 1, [9.0], status="diverged")
    make_run(tmp_path, "romi", 2, [9.0, 9.0], status="unfinished")
    records = [read_record(path) for path in sorted(tmp_path.glob("*/*/seed_*"))]
    (row,) = make_rows(records)
    assert row.score == 2.0 and row.seeds == [0]
    text = Report(records, "").text()
    assert re.search(r"^romi +1 of 3 +2\.0", text, re.M)
    assert "romi: seed 1 diverged after step 100" in text
    assert "romi: seed 2 stopped after step 200" in text


def test_fits_from_the_cache_are_told_beside_the_wall_time(tmp_path):
    for seed, taken in enumerate((True, False, True)):
        make_run(tmp_path, "mopo", seed, [1.0], fit={"taken": taken, "seconds": 30.0 * (seed + 1)})
    records = [read_record(path) for path in sorted(tmp_path.glob("*/*/seed_*"))]
    (note,) = [note for note in make_notes(make_rows(records), records) if "cache" in note]
    assert note.startswith("2 of 3 dynamics models") and note.endswith("1:00 on average")


MIXTURES = {
    "data source": ({"data": {"source": "d4rl"}}, "data source d4rl, but generated in mopo seed 0"),
    "data": ({"data": {"sha256": "b" * 64}}, "data sha256 bbbbbbbbbbbb..., but aaaaaaaaaaaa..."),
    "environment": ({"data": {"env_version": "HalfCheetah-v5"}}, "environment HalfCheetah-v5, but"),
    "simulator": ({"versions": {"mujoco": "2.1"}}, "mujoco 2.1, but 3.3"),
    "settings": ({"gamma": 0.5}, "--gamma 0.5, but 0.99 in mopo seed 0"),
}


@pytest.mark.parametrize(("change", "said"), MIXTURES.values(), ids=MIXTURES.keys())
def test_a_mixture_is_refused_with_what_differs(change, said, tmp_path):
    runs = [make_run(tmp_path, "mopo", 0, [1.0]), make_run(tmp_path, "mopo", 1, [1.0], **change)]
    with pytest.raises(UserError) as caught:
        refuse_mixtures([read_record(run) for run in runs])
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("these runs cannot stand in one table") and len(lines) == 1
    assert lines[0].strip().startswith(f"mopo seed 1: {said}") and str(runs[1]) in lines[0]


def test_a_run_older_than_a_setting_stands_beside_one_that_leaves_it_alone(tmp_path):
    folder = make_run(tmp_path, "mopo", 0, [1.0])
    path = folder / "record" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["config"]["actor"]
    path.write_text(json.dumps(manifest))
    old = read_record(folder)
    alone = read_record(make_run(tmp_path, "mopo", 1, [1.0], actor=""))
    own = read_record(make_run(tmp_path, "mopo", 2, [1.0], actor="nets:wide"))
    refuse_mixtures([old, alone])
    with pytest.raises(UserError, match="--actor nets:wide, but "):
        refuse_mixtures([old, own])


def test_every_difference_has_a_line(tmp_path):
    make_run(tmp_path, "mopo", 0, [1.0])
    make_run(tmp_path, "romi", 0, [1.0], data={"sha256": "b" * 64, "source": "file"})
    make_run(tmp_path, "iql", 0, [1.0], versions={"gymnasium": "0.29"})
    records = [read_record(path) for path in sorted(tmp_path.glob("*/*/seed_*"))]
    with pytest.raises(UserError) as caught:
        refuse_mixtures(records)
    lines = str(caught.value).splitlines()[1:]
    # the first by name is what the others are measured by
    assert len(lines) == 4 and all("in iql seed 0" in line for line in lines)


def test_a_simulator_that_changed_on_the_way_is_noticed(tmp_path):
    runs = [make_run(tmp_path, "mopo", seed, [1.0]) for seed in (0, 1)]
    path = runs[1] / "record" / "manifest.json"
    resumed = [{"versions": {"gymnasium": "1.0", "mujoco": "3.4"}}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resumed": resumed}))
    with pytest.raises(UserError, match=r"mujoco 3\.3 and 3\.4, but 3\.3"):
        refuse_mixtures([read_record(run) for run in runs])


def test_a_seed_that_is_there_twice_is_refused(tmp_path):
    runs = [make_run(tmp_path, "mopo", 0, [1.0]) for _ in range(2)]
    with pytest.raises(UserError, match="mopo seed 0: there twice"):
        refuse_mixtures([read_record(run) for run in runs])


def test_other_algorithms_and_named_variants_may_have_other_settings(tmp_path):
    make_run(tmp_path, "mopo", 0, [1.0], gamma=0.5)
    make_run(tmp_path, "romi", 0, [1.0])
    make_run(tmp_path, "romi", 1, [1.0], algo_name="romi_wide", xi=1.0)
    records = [read_record(path) for path in sorted(tmp_path.glob("*/*/seed_*"))]
    refuse_mixtures(records)
    assert [row.label for row in make_rows(records)] == ["mopo", "romi", "romi_wide"]


def test_returns_stand_beside_returns_and_the_datas_own_return(tmp_path):
    runs = [make_run(tmp_path, "mopo", 0, [3.0, 5.0], scale="return")]
    runs.append(make_run(tmp_path, "mopo", 1, [], scale="return", status="diverged"))
    report = Report([read_record(run) for run in runs], "")
    assert report.rows[0].score == 4.0
    assert re.search(r"^the data itself +2000\.0$", report.text(), re.M)
    report.write(tmp_path / "out")  # a run without a curve is no obstacle
    runs.append(make_run(tmp_path, "romi", 0, [3.0]))
    with pytest.raises(UserError, match="romi seed 0: scale score, but return in mopo seed 0"):
        refuse_mixtures([read_record(run) for run in runs])


def test_a_curve_averages_what_got_there(records):
    steps, means, stds = mean_curve([x.curve for x in records[:3]])
    assert steps.tolist() == [100, 200, 300]
    assert means == pytest.approx([1.0, 7 / 3, 14 / 3])
    assert stds[0] == pytest.approx(plain.stdev([1.0, 2.0, 0.0]))
    short = [*records[:1], *records[3:4]]  # 3 and 12 evaluations
    steps, means, stds = mean_curve([x.curve for x in short])
    assert len(steps) == 12 and means[-1] == 5.0 and stds[-1] == 0.0
    assert [len(column) for column in mean_curve([])] == [0, 0, 0]


def test_the_figure_has_a_line_per_algorithm_and_the_datas(tmp_path, records):
    curves = {
        "mopo": mean_curve([x.curve for x in records[:3]]),
        "romi": mean_curve([x.curve for x in records[3:]]),
    }
    figure = plot_comparison(tmp_path / "f.png", curves, title="t", reference=7.0)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines[:2]] == ["mopo", "romi"]
    assert len(axes.lines) == 3 and axes.lines[2].get_linestyle() == "--"
    assert set(axes.lines[2].get_ydata()) == {7.0}
    assert np.allclose(axes.lines[0].get_ydata(), [1.0, 7 / 3, 14 / 3])
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"


def test_runs_there_are_can_be_reported_on(tmp_path, records, capsys):
    out = tmp_path / "out"
    assert cli.main(["compare", "--runs", str(tmp_path), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    stem = f"compare_{TASK}"
    assert {path.name for path in out.iterdir()} == {
        f"{stem}.{kind}" for kind in ("md", "csv", "json", "png")
    }
    assert re.search(r"^mopo +3 +2\.7 ± 2\.1", shown, re.M)
    page = (out / f"{stem}.md").read_text()
    assert page.startswith(f"# {TASK}, generated data (not D4RL)\n")
    assert "| mopo | 3 | 2.7 ± 2.1 |" in page and f"]({stem}.png)" in page
    assert "offlinerlkit-romi compare --runs" in page
    with (out / f"{stem}.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert float(rows["mopo"]["score"]) == pytest.approx(8 / 3)
    assert rows["romi"]["seeds"] == "0; 1; 2"
    content = json.loads((out / f"{stem}.json").read_text())
    assert content["data"]["sha256"] == SHA and content["environment"]["mujoco"] == "3.3"
    assert len(content["runs"]) == 6 and content["runs"][0]["settings"]["gamma"] == 0.99
    assert content["runs"][0]["curve"] == {"steps": [100, 200, 300], "scores": [1.0, 2.0, 3.0]}


def test_no_place_of_this_machine_gets_into_the_papers(tmp_path, records):
    fit = {"taken": True, "seconds": 1.0, "key": "k", "fitted_by": str(tmp_path / "first")}
    record = read_record(make_run(tmp_path, "combo", 0, [1.0], fit=fit))
    for path in Report([*records, record], "compare").write(tmp_path / "out"):
        assert str(tmp_path).encode() not in path.read_bytes()
        assert b"somebody" not in path.read_bytes()


def test_a_diverged_run_makes_the_status_three(tmp_path, capsys):
    make_run(tmp_path, "mopo", 0, [1.0])
    make_run(tmp_path, "mopo", 1, [], status="diverged")
    assert cli.main(["compare", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "seed 1 diverged after step 0" in capsys.readouterr().out


BAD = {
    "no run": (["--runs", "{}"], "no run in "),
    "both": (["--runs", "{}", "--algos", "romi"], "--runs only reports: leave out --algos"),
    "no algorithm": (["--task", TASK], "--algos is missing"),
    "no task": (["--algos", "romi"], "--task is missing"),
    "unknown algorithm": (["--algos", "rome", "--task", TASK], "did you mean romi"),
    "unknown flag": (["--algos", "iql", "--task", TASK, "--xii", "1"], "unknown flag '--xii'"),
    "nobody's flag": (["--algos", "iql", "--task", TASK, "--xi", "1"], "unknown flag '--xi'"),
    "wrong value": (["--algos", "iql", "--task", TASK, "--epoch", "x"], "x"),
    "no flag": (["--algos", "iql", "--task", TASK, "--jobs", "1", "x"], "'x' is no flag"),
    "seed": (["--algos", "iql", "--task", TASK, "--seed", "1"], "--seed is not for all runs"),
    "resume": (["--algos", "iql", "--task", TASK, "--resume", "auto"], "--resume is not for all"),
    "twice": (["--algos", "iql", "iql", "--task", TASK], "--algos names iql more than once"),
    "seeds": (["--algos", "iql", "--task", TASK, "--seeds", "1", "1"], "--seeds names 1 more"),
    "set": (["--algos", "iql", "--task", TASK, "--set", "gamma=1"], "write algorithm.setting="),
    "set whom": (["--algos", "iql", "--task", TASK, "--set", "romi.xi=1"], "unknown algorithm"),
    "jobs": (["--algos", "iql", "--task", TASK, "--jobs", "0"], "--jobs is 0"),
    "episodes": (["--runs", "{}", "--suite", "robust-v1", "--episodes", "0"], "--episodes is 0"),
    "of no suite": (
        ["--runs", "{}", "--episodes", "5"],
        "--episodes is of a suite such as robust-v1: name it",
    ),
    "nobody attacks": (
        ["--runs", "{}", "--attack-critic", "x"],
        "--attack-critic is of a suite such as robust",
    ),
    "no attack": (
        ["--runs", "{}", "--suite", "robust-small-v1", "--attack-critic", "x"],
        "--attack-critic: no condition of robust-small-v1 is a min_q attack",
    ),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD.keys())
def test_wrong_words_end_in_one_line_before_anything_starts(words, said, tmp_path, capsys):
    words = [word.format(tmp_path) for word in words]
    roots = [] if "--runs" in words or "x" in words[-1:] else ["--log-root", str(tmp_path / "log")]
    assert cli.main(["compare", *words, *roots]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_shows_examples_and_statuses(capsys):
    assert cli.main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and "--set ALGO.NAME=VALUE" in shown and "75 stopped" in shown
