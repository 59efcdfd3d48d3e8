"""A run's folder is read by one hand: old summaries too, damage in one line, each run once."""

import json
import os

import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.compare.records import read_record
from offlinerlkit_romi.experiment.compare.report import Report
from offlinerlkit_romi.experiment.folder import MANIFEST, SUMMARY, RunFolder
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.resume import Runs
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.runs import make_run, read_json

IDENTITY = ("run_dir", "algo", "task", "data_source", "seed", "steps")


def test_a_summary_of_before_its_other_fields_came_is_read(tmp_path):
    folder = make_run(tmp_path, "iql", 0, [1.0])
    stored = read_json(folder / SUMMARY)
    older = {name: stored[name] for name in IDENTITY} | {"of a later version": 1}
    (folder / SUMMARY).write_text(json.dumps(older))
    summary = RunFolder(folder).summary
    assert summary.seed == 0 and summary.score_last != summary.score_last
    assert "mean of the last 10 " in summary.table()


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": 1}'])
def test_a_damaged_summary_is_one_line(content, tmp_path):
    folder = make_run(tmp_path, "iql", 0, [1.0])
    (folder / SUMMARY).write_text(content)
    with pytest.raises(UserError, match=r"summary\.json is damaged: ") as caught:
        _ = RunFolder(folder).summary
    assert "\n" not in str(caught.value)


def test_what_is_noted_stands_in_the_manifest_and_in_hand(tmp_path):
    run = RunFolder(make_run(tmp_path, "mopo", 0, [1.0]))
    before = dict(run.manifest)
    run.note(dynamics_fit={"taken": True})
    assert (
        run.manifest == RunFolder(run.path).manifest == before | {"dynamics_fit": {"taken": True}}
    )
    assert list(run.manifest) == list(before)


def test_a_run_is_read_again_only_where_it_has_written_since(tmp_path):
    folder = make_run(tmp_path, "iql", 0, [1.0])
    make_run(tmp_path, "mopo", 0, [1.0])
    damaged = make_run(tmp_path, "iql", 1, [1.0])
    (damaged / MANIFEST).write_text("{")
    wanted = settle("iql", TINY_SETTINGS["iql"] | {"seed": 0, "log_root": str(tmp_path)})
    runs = Runs()
    (first,), (again,) = runs.of(wanted), runs.of(wanted)
    assert first is again and first.path == folder
    os.utime(folder / MANIFEST, ns=(1, 1))
    (later,) = runs.of(wanted)
    assert later is not first and later.path == folder


def test_a_report_resamples_once_however_often_it_is_shown(tmp_path):
    folders = [make_run(tmp_path, "iql", seed, [1.0 * seed]) for seed in range(3)]
    report = Report([read_record(RunFolder(folder)) for folder in folders], "")
    rows = report.rows
    report.text()
    report.write(tmp_path / "out")
    assert report.rows is rows
