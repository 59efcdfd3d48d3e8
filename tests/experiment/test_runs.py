"""Runs as data: read back whole, as one frame; what a notebook and the console show of them."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import offlinerlkit_romi as package
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.folder import PROGRESS, SUMMARY
from offlinerlkit_romi.experiment.runs import load_run, load_runs
from offlinerlkit_romi.experiment.seeds import SeedsSummary
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.utils.logger import DEBUG, INFO, Logger
from tests.experiment.conftest import TASK, TINY_SETTINGS, make_dataset
from tests.support.runs import make_run, rows_of

SCORE = "eval/normalized_episode_reward"


@pytest.fixture
def made(tiny_data, tmp_path):
    """Train TD3+BC; returns its summary."""
    told = TINY_SETTINGS["td3bc"] | {"log_root": str(tmp_path / "log")}
    return lambda **values: package.train("td3bc", **told | values)


def test_a_run_is_read_back_whole(made):
    summary = made(seed=3, quiet=True)
    run = package.load_run(summary.run_dir)
    assert isinstance(run, package.Run) and isinstance(summary, package.Summary)
    assert (run.algorithm, run.task, run.seed, run.source) == ("td3bc", TASK, 3, "generated")
    assert (run.status, run.path) == ("finished", Path(summary.run_dir))
    assert run.config["seed"] == 3 and run.config["alpha"] == 2.5
    assert "OfflineRL-Kit" in run.manifest["config"]["alpha"]["source"]
    assert run.summary.steps == 8
    assert run.policy.select_action(np.zeros((2, 17)), deterministic=True).shape == (2, 6)
    np.testing.assert_array_equal(run.dataset.observations, make_dataset().observations)


def test_its_curve_holds_every_cell_of_the_file(made):
    summary = made(quiet=True)
    curve, rows = package.load_run(summary.run_dir).curve, rows_of(summary.run_dir)
    assert curve.columns[0] == "timestep" and curve["timestep"].tolist() == [4, 8]
    for name in rows[0]:
        np.testing.assert_array_equal(curve[name], [float(row[name] or "nan") for row in rows])
    assert summary.curve().equals(curve)


@pytest.mark.slow
def test_a_run_evaluates_its_policy(made):
    run = package.load_run(made(quiet=True).run_dir)
    found = run.evaluate(1, 5, device="cpu")
    assert (found.episodes, found.seed) == (1, 5)
    assert found == package.evaluate(run.path, 1, 5, device="cpu")


def test_data_that_have_changed_are_refused(made, tiny_data):
    run = package.load_run(made(quiet=True).run_dir)
    now = make_dataset()
    tiny_data.dataset = replace(now, info=replace(now.info, sha256="1" * 64))
    with pytest.raises(UserError, match="data"):
        _ = run.dataset


def test_a_cell_without_a_number_is_nan_and_a_run_without_rows_has_no_row(tmp_path):
    folder = make_run(tmp_path, "iql", 0, [1.0, 2.0], status="unfinished")
    curve = load_run(folder).curve
    assert curve["timestep"].tolist() == [100, 200] and "q/model" not in curve
    (folder / PROGRESS).write_text("timestep,a,b\n1,2,\n2,,3\n")
    curve = load_run(folder).curve
    np.testing.assert_array_equal(curve, [[1, 2, np.nan], [2, np.nan, 3]])
    (folder / PROGRESS).unlink()
    empty = load_run(folder)
    assert empty.curve.shape == (0, 1) and empty.status == "unfinished"
    with pytest.raises(UserError, match="summary"):
        _ = empty.summary


def test_the_runs_of_a_folder_are_one_frame_with_their_names(tmp_path):
    make_run(tmp_path, "iql", 1, [5.0, 6.0], algo_name="iql-twice")
    make_run(tmp_path, "mopo", 0, [1.0], status="diverged")
    frame = load_runs(tmp_path)
    names = ["task", "algorithm", "label", "seed", "source", "status"]
    assert list(frame.columns[:8]) == [*names, "run_dir", "timestep"]
    assert frame[[*names, SCORE]].to_numpy().tolist() == [
        [TASK, "iql", "iql-twice", 1, "generated", "finished", 5.0],
        [TASK, "iql", "iql-twice", 1, "generated", "finished", 6.0],
        [TASK, "mopo", "mopo", 0, "generated", "diverged", 1.0],
    ]
    assert frame.index.tolist() == [0, 1, 2]
    assert load_run(frame["run_dir"][2]).algorithm == "mopo"


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ("log/**", ["iql", "mopo"]),
        ("log", ["iql", "mopo"]),
        ("log/*/iql*", ["iql"]),
        (["log/*/mopo*", "log"], ["mopo", "iql"]),
        ("log/*/*/seed_1", ["mopo"]),
    ],
)
def test_places_are_folders_or_patterns_and_no_run_is_there_twice(places, found, here):
    make_run(here / "log", "iql", 0, [1.0])
    make_run(here / "log", "mopo", 1, [1.0])
    assert load_runs(places)["algorithm"].tolist() == found


def test_where_no_run_lies_is_said_and_so_is_which_one_is_damaged(tmp_path):
    with pytest.raises(UserError, match=r"no run in .*nowhere"):
        load_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run's folder"):
        load_run(tmp_path)
    folder = make_run(tmp_path, "iql", 0, [1.0])
    (folder / PROGRESS).write_text("timestep\nx\n")
    with pytest.raises(UserError, match=r"seed_0.*\.csv is damaged"):
        load_runs(tmp_path)


def test_a_notebook_shows_the_table_and_the_curve_of_a_run_and_no_markup_of_a_name(tmp_path):
    folder = make_run(tmp_path, "iql", 0, [1.0], algo_name="<b>")
    run = load_run(folder)
    assert "&lt;b&gt; on" in run._repr_html_() and "<b>" not in run._repr_html_()
    assert "<td>mean of the last 10</td><td>1.00</td>" in run._repr_html_()
    assert "<img" not in run._repr_html_() and str(folder) in repr(run)
    (folder / "result/learning_curve.png").write_bytes(b"picture")
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in run._repr_html_()
    (folder / SUMMARY).unlink()
    assert "<td>unfinished</td>" in load_run(folder)._repr_html_()


def test_a_summary_and_one_of_seeds_show_their_tables(made):
    both = made(seeds=[0, 2], quiet=True)
    summary = both.summaries[2]
    assert "<td>time</td>" in summary._repr_html_() and "seed 2" in summary._repr_html_()
    assert isinstance(both, SeedsSummary)
    assert f"<td>{summary.run_dir}</td>".replace("&", "&amp;") in both._repr_html_()
    assert both.curve()["seed"].tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("values", "shown", "hidden"),
    [
        ({"quiet": True}, [], ["epoch"]),
        ({"verbosity": 0}, [], ["epoch"]),
        ({}, ["400 transitions", "run folder", "epoch 2/2"], ["last evaluation", "summary:"]),
        ({"verbosity": 2}, ["epoch 1/2", "epoch 2/2", "last evaluation", "summary:"], []),
    ],
)
def test_the_console_hears_as_much_as_is_asked_for_and_the_file_everything(
    values, shown, hidden, made, capsys
):
    summary = made(**values)
    out = capsys.readouterr().out
    assert all(word in out for word in shown) and not any(word in out for word in hidden)
    assert bool(out) == bool(shown)
    told = (Path(summary.run_dir) / "record/consoleout_backup.txt").read_text()
    for word in ("400 transitions", "epoch 1/2", "epoch 2/2", "last evaluation", "summary:"):
        assert word in told


def test_what_is_shown_goes_through_logging(made, capsys):
    log, heard = logging.getLogger("offlinerlkit_romi"), []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append((record.levelno, record.getMessage()))
    log.addHandler(handler)
    try:
        log.setLevel(logging.WARNING)
        made()
        assert not heard and not capsys.readouterr().out
        log.setLevel(logging.DEBUG)
        made()
    finally:
        log.removeHandler(handler)
    assert (logging.INFO, f"{TASK}: 400 transitions, generated data (not D4RL)") in heard
    assert "400 transitions" in capsys.readouterr().out


def test_epochs_that_end_within_seconds_are_details_but_for_the_last(tmp_path, capsys):
    logger = Logger(str(tmp_path / "run"), {}, console_level=INFO)
    progress = Progress(logger, 5, 1, "")
    for epoch in range(1, 6):
        progress.end_epoch(epoch, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/5", "5/5"]


@pytest.mark.parametrize(("level", "seen"), [(DEBUG, True), (INFO, True), (30, False)])
def test_a_quiet_run_has_no_bar(level, seen, tmp_path, terminal):
    terminal()
    assert Logger(str(tmp_path / "run"), {}, console_level=level).shows_bars is seen


def test_a_verbosity_that_there_is_not_is_one_line():
    with pytest.raises(UserError, match=r"verbosity is 3: give 0, 1 or 2"):
        package.train("td3bc", verbosity=3)
