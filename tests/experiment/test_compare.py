"""`compare` makes what is missing, goes on with what stopped, and leaves the rest alone."""

import json
import re
import shlex
from pathlib import Path

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment.compare.plan import default_workers, make_jobs, own_flags
from offlinerlkit_romi.experiment.folder import RunFolder
from tests.experiment.conftest import TASK, TINY_SETTINGS
from tests.support.programs import flags
from tests.support.stopping import Killed, at_update, kill

ALGOS = ["iql", "romi"]


def compare(root, *words, algos=ALGOS, seeds=(0, 1)):
    settings = {k: v for algo in algos for k, v in TINY_SETTINGS[algo].items()}
    common = flags(settings | {"log_root": root})
    return cli.main(["compare", "--algos", *algos, "--seeds", *map(str, seeds), *common, *words])


@pytest.mark.slow
def test_missing_runs_are_made_once_and_reported(made, tmp_path, capsys):
    assert compare(tmp_path) == 0
    assert made == [f"{algo} seed {seed}" for algo in ALGOS for seed in (0, 1)]
    shown = capsys.readouterr().out
    assert "4 runs: 0 need nothing, 0 to go on with, 4 to make" in shown
    assert len(list(tmp_path.glob("*/*/seed_*"))) == 4
    for algo in ALGOS:
        assert re.search(rf"^{algo} +2 +- +- +8 ", shown, re.M)
    report = tmp_path / TASK / "compare"
    assert (report / f"compare_{TASK}.png").stat().st_size > 0
    assert compare(tmp_path) == 0
    assert len(made) == 4
    assert "4 runs: 4 need nothing" in capsys.readouterr().out
    assert compare(tmp_path, algos=["iql"], seeds=(0, 2)) == 0
    assert made[4:] == ["iql seed 2"]


def test_runs_are_those_that_train_would_make(made, tmp_path):
    """One thread, the flags an algorithm has, and its own settings on top."""
    own = ["--set", "romi.xi=0.5", "romi.hidden_dims=4,4"]
    assert compare(tmp_path, *own, algos=["iql", "mopo", "romi"], seeds=(3,)) == 0
    settings = {}
    for path in tmp_path.glob("*/*/*/record/manifest.json"):
        manifest = json.loads(path.read_text())
        config = manifest["config"]
        settings[manifest["algo"]] = {name: config[name]["value"] for name in config}
        assert manifest["seed"] == 3 and config["threads"]["value"] == 1
        assert config["seed"]["source"] == config["epoch"]["source"] == "command line"
    assert settings["romi"]["xi"] == 0.5 and settings["romi"]["hidden_dims"] == [4, 4]
    assert settings["mopo"]["hidden_dims"] == [8] and settings["mopo"]["n_ensemble"] == 3
    assert "n_ensemble" not in settings["iql"] and "xi" not in settings["mopo"]


def test_a_stopped_run_is_gone_on_with_and_a_diverged_one_is_not(made, tmp_path):
    with at_update(5, kill), pytest.raises(Killed):
        compare(tmp_path, "--checkpoint-share", "1", algos=["mopo"])
    (stopped,) = tmp_path.glob("*/*/seed_*")
    assert compare(tmp_path, algos=["mopo"]) == 0
    assert made == ["mopo seed 0", "mopo seed 0", "mopo seed 1"]
    assert len(list(tmp_path.glob("*/*/seed_*"))) == 2
    manifest = json.loads((stopped / "record" / "manifest.json").read_text())
    assert [part["step"] for part in manifest["resumed"]] == [4]
    (stopped / "result" / "summary.json").unlink()
    (stopped / "result" / "diagnosis.json").write_text('{"stopped": true}')
    assert compare(tmp_path, algos=["mopo"]) == 3
    assert len(made) == 3


def test_a_run_of_another_process_is_left_to_it(made, tmp_path, capsys):
    assert compare(tmp_path, algos=["mopo"], seeds=(0,)) == 0
    (folder,) = tmp_path.glob("*/*/seed_*")
    (folder / "result" / "summary.json").unlink()
    capsys.readouterr()
    with RunFolder(folder).lock():
        assert compare(tmp_path, algos=["mopo"], seeds=(0,)) == 0
    assert len(made) == 1
    assert "mopo: seed 0 still running, step 8 so far" in capsys.readouterr().out


def test_a_failed_run_is_in_the_table_and_the_others_are_made(made, tmp_path, capsys):
    def failing(todo, *rest):
        codes = made.run_here(todo[1:], *rest)
        todo[0].log.write_text("Traceback\nOutOfMemoryError: too large\n")
        return [1, *codes]

    made.run = failing
    assert compare(tmp_path, algos=["iql", "mopo"], seeds=(0,)) == 2
    shown = capsys.readouterr()
    assert re.search(r"^iql +0 of 1 +-", shown.out, re.M)
    assert "iql: seed 0 failed with status 1: OutOfMemoryError: too large" in shown.out
    assert re.search(r"^mopo +1 ", shown.out, re.M)
    assert shown.err == "error: 1 runs failed, the table says how: iql seed 0\n"


def test_other_data_than_the_finished_runs_are_refused_before_training(made, tmp_path, capsys):
    assert compare(tmp_path, algos=["iql", "mopo"], seeds=(0,)) == 0
    (folder,) = tmp_path.glob("*/mopo*/seed_*")
    path = folder / "record" / "manifest.json"
    path.write_text(path.read_text().replace("0" * 64, "f" * 64))
    capsys.readouterr()
    assert compare(tmp_path, algos=["iql", "mopo"], seeds=(0, 1)) == 2
    error = capsys.readouterr().err
    assert "mopo seed 0: data sha256 ffffffffffff..., but 000000000000... in iql seed 0" in error
    assert len(made) == 2


def test_an_interruption_ends_with_status_75(made, tmp_path, capsys):
    def interrupted(*_):
        raise TrainingInterrupted("interrupted")

    made.run = interrupted
    assert compare(tmp_path) == 75
    error = capsys.readouterr().err
    assert error.startswith("interrupted; go on with: offlinerlkit-romi compare --algos iql romi ")
    again = shlex.split(error.partition("go on with: ")[2])[1:]
    assert cli.main(again) == 75 and capsys.readouterr().err == error


def test_a_killed_run_is_told_with_its_log(made, tmp_path, capsys):
    made.run = lambda todo, *rest: [-9, *made.run_here(todo[1:], *rest)]
    assert compare(tmp_path, algos=["iql", "mopo"], seeds=(0,)) == 2
    shown = capsys.readouterr().out
    assert "iql: seed 0 killed (SIGKILL), log: iql_seed_0.log\n" in shown


@pytest.mark.slow
def test_a_run_is_made_by_a_process_of_its_own(tmp_path, capsys):
    """The one test that starts real children: they fail at once, on data that is not there."""
    words = ["--data", str(tmp_path / "none.hdf5"), "--log-root", str(tmp_path / "log")]
    assert cli.main(["compare", "--algos", "iql", "--seeds", "0", "--task", TASK, *words]) == 2
    shown = capsys.readouterr()
    assert "[1/1] iql seed 0: ended with status 2" in shown.out
    assert shown.err.startswith("error: no run could be made: iql seed 0 failed with status 2:")
    log = Path(tmp_path / "log" / TASK / "compare" / "iql_seed_0.log")
    assert log.read_text().startswith("error: ")


def test_settings_of_one_algorithm_are_flags_of_its_own():
    flags = own_flags(["romi.rollout_length=5", "romi.hidden_dims=8,9", "iql.expectile=0.9"])
    assert flags == {
        "romi": ["--rollout-length", "5", "--hidden-dims", "8", "9"],
        "iql": ["--expectile", "0.9"],
    }


def test_a_run_leaves_the_cores_to_the_others_unless_told():
    (job,) = make_jobs(["iql"], [0], ["--device", "cpu"], {})
    assert job.resolved.config.threads == 1 and job.resolved.config.eval_async is False
    assert {"--threads", "--no-eval-async"} <= set(job.words)
    words = ["--device", "cpu", "--threads", "2", "--eval-async", "True"]
    (job,) = make_jobs(["iql"], [0], words, {})
    assert job.resolved.config.threads == 2 and job.resolved.config.eval_async is True
    assert job.words == ("iql", *words, "--seed", "0")
    (job,) = make_jobs(["iql"], [0], ["--device", "cuda"], {})
    assert job.resolved.config.eval_async is None


def test_workers_are_the_cores_on_a_cpu_and_one_on_a_gpu(cores):
    cores(3)
    assert default_workers(make_jobs(["iql"], [0], ["--device", "cpu"], {})) == 3
    assert default_workers(make_jobs(["iql"], [0], ["--device", "cuda"], {})) == 1
