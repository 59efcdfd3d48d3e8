"""The laptop benchmark: one preset for every algorithm, and bands that scores are held against."""

import csv
from pathlib import Path

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.compare import perform
from offlinerlkit_romi.experiment.compare.bands import LAST, LEAST, limits, read_bands
from offlinerlkit_romi.experiment.compare.records import read_record
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.folder import find_runs
from offlinerlkit_romi.experiment.resolve import resolve
from offlinerlkit_romi.experiment.suites import BENCHMARKS
from tests.support.runs import make_run

SMALL = BENCHMARKS["small-v1"]
TASK = SMALL.tasks[0]
SCORES = {0: [0.0] * 6 + [10.0, 10.0, 10.0, 10.0, 15.0], 1: [10.0] * 5, 2: [9.0, 14.0] * 5}
MEANS = [11.0, 10.0, 12.0]  # of the last five
BAND = (8.0, 14.0)  # the range's width on both sides


def finished(root, algo, seed, scores, task=TASK, **changed):
    """A run of the benchmark, but for what is changed."""
    values = as_dict(resolve(algo, task, SMALL.name).config) | changed
    own = ("seed", "task", "log_root", "data")  # which the preset says
    told = {name: value for name, value in values.items() if name not in own}
    return make_run(root, algo, seed, scores, task=task, **told)


@pytest.fixture
def bands(tmp_path):
    """A file of bands of three runs of ROMI."""
    runs = tmp_path / "log"
    for seed, scores in SCORES.items():
        finished(runs, "romi", seed, scores)
    file = tmp_path / "bands.csv"
    words = ["--runs", str(runs), "--out", str(tmp_path / "out"), "--write-bands", str(file)]
    assert cli.main(["compare", "--suite", "small-v1", *words]) == 0
    return file


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_has_the_schedule_and_only_settings_of_its_own(algo):
    config = as_dict(resolve(algo, TASK, "small-v1").config)
    assert (config["data"], config["transitions"], config["epoch"]) == ("generated", 100_000, 11)
    schedule = {"rollout_length": 5, "real_ratio": 0.5, "tau": 0.02, "dynamics_max_epochs": 8}
    schedule |= dict.fromkeys(("actor_lr", "critic_lr", "critic_q_lr", "alpha_lr"), 1e-3)
    assert {
        name: config[name] for name in schedule.keys() & config.keys()
    }.items() <= schedule.items()
    hopper = as_dict(resolve(algo, "hopper-medium-v2", "small-v1").config)
    assert hopper.get("rollout_length", 50) == 50  # whatever the task's own row says


def test_the_demo_is_the_benchmark_with_both_cores():
    demo, small = (as_dict(resolve("romi", TASK, name).config) for name in ("demo", "small-v1"))
    differing = {name for name in demo if demo[name] != small[name]}
    assert differing == {"preset", "dynamics_threads", "eval_async"}


def test_a_base_that_is_not_there_is_said(monkeypatch):
    from offlinerlkit_romi.experiment import resolve as module

    monkeypatch.setattr(module, "_read_book", lambda *_: "presets: {a: {about: b, base: nobody}}")
    module._book_of.cache_clear()
    with pytest.raises(UserError, match="the base of preset a is not as it should be"):
        resolve("bc")
    monkeypatch.undo()
    module._book_of.cache_clear()


def test_a_band_is_the_range_of_its_runs_widened_by_its_width():
    assert limits(MEANS) == BAND
    assert limits([5.0, 5.5, 5.1]) == (5.0 - LEAST, 5.5 + LEAST)


def test_bands_are_written_from_the_last_five_evaluations(bands):
    (band,) = read_bands(SMALL, bands).values()
    assert (band.low, band.high) == BAND and band.seeds == "0 1 2"
    assert [float(score) for score in band.scores.split()] == MEANS
    assert (band.task, band.algorithm, band.hardware) == (TASK, "romi", "a CPU")


def test_too_few_runs_make_no_band(bands, tmp_path, capsys):
    finished(tmp_path / "few", "bc", 0, [1.0] * LAST)
    words = ["--runs", str(tmp_path / "few"), "--write-bands", str(bands), "--out", str(tmp_path)]
    before = bands.read_text()
    assert cli.main(["compare", "--suite", "small-v1", *words]) == 2
    assert f"{TASK} bc: a band needs 3 finished runs, here are 1" in capsys.readouterr().err
    assert bands.read_text() == before


def test_other_bands_stay_when_an_algorithm_gets_its_own(bands, tmp_path):
    for seed in range(3):
        finished(tmp_path / "more", "bc", seed, [1.0] * LAST)
    words = ["--runs", str(tmp_path / "more"), "--write-bands", str(bands), "--out", str(tmp_path)]
    assert cli.main(["compare", "--suite", "small-v1", *words]) == 0
    assert [algo for _, algo in read_bands(SMALL, bands)] == ["bc", "romi"]


@pytest.mark.parametrize(
    ("scores", "status", "word"),
    [([8.1] * 5, 0, "inside"), ([20.0] * 6 + [7.9] * 5, 1, "outside"), ([15.0] * 5, 1, "outside")],
)
def test_check_says_of_a_run_whether_it_is_inside(bands, tmp_path, capsys, scores, status, word):
    run = finished(tmp_path / "other", "romi", 7, scores, algo_name="mine", engine="eager")
    capsys.readouterr()
    assert cli.main(["check", str(run), "--bands", str(bands)]) == status
    (head, line) = capsys.readouterr().out.splitlines()
    assert line.split()[:5] == [TASK, "romi", "7", f"{scores[-1]:.1f}", word]
    assert line.endswith("8.0 to 14.0          0 1 2") and head.startswith("task")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"epoch": 5}, "--epoch is 5, not 11"),
        ({"hidden_dims": (64, 64)}, "--hidden-dims is 64 64, not 128 128"),
        ({"task": "hopper-random-v2"}, "--task is hopper-random-v2, not one of halfcheetah-"),
        ({"status": "unfinished"}, "stopped after step 500"),
        ({"algo": "mopo"}, "there is no band of mopo on halfcheetah-random-v2"),
    ],
)
def test_check_refuses_what_is_no_finished_run_of_it(bands, tmp_path, capsys, how, why):
    how = {"algo": "romi", "seed": 7, "scores": [10.0] * 5, **how}
    run = finished(tmp_path / "other", **how)
    assert cli.main(["check", str(run), "--bands", str(bands)]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1


def test_compare_trains_on_the_suites_tasks_by_its_preset_and_says_where_scores_lie(
    bands, tmp_path, monkeypatch, capsys
):
    """The training itself is put in here."""
    told = []

    def run(commands, *_):
        for command in commands:
            resolved = parse(command.argv[4], command.argv[5:])
            told.append((resolved.config.task, resolved.config.preset))
            score = 10.0 if resolved.config.seed else 0.0
            config = resolved.config
            finished(Path(config.log_root), resolved.algo, config.seed, [score] * 5, config.task)
        return [0] * len(commands)

    monkeypatch.setattr(perform, "run_commands", run)
    words = ["--algos", "romi", "bc", "--seeds", "0", "1", "--bands", str(bands)]
    root = tmp_path / "new"
    assert cli.main(["compare", "--suite", "small-v1", *words, "--log-root", str(root)]) == 0
    assert told == [(task, "small-v1") for task in SMALL.tasks for _ in range(4)]
    assert "outside" in capsys.readouterr().out
    with (root / "small-v1/small-v1.csv").open(newline="") as file:
        verdicts = {
            (r["task"], r["algorithm"], r["seed"]): r["verdict"] for r in csv.DictReader(file)
        }
    assert len(verdicts) == 12
    assert (verdicts[TASK, "romi", "0"], verdicts[TASK, "romi", "1"]) == ("outside", "inside")
    assert verdicts[SMALL.tasks[1], "romi", "1"] == verdicts[TASK, "bc", "0"] == "no band"
    assert (root / f"small-v1/compare_{SMALL.tasks[2]}.md").is_file()


BAD = {
    "schedule": (["--epoch", "5"], "--suite small-v1 has its own settings, and --epoch is 5, not"),
    "own setting": (["--set", "romi.xi=1"], "--xi is 1.0, not 0.01"),
    "preset": (["--preset", "paper"], "--suite small-v1 has its own settings, and --"),
    "task": (["--task", "hopper-random-v2"], "unknown task of small-v1 'hopper-random-v2'"),
    "episodes": (["--episodes", "5"], "--episodes is of a suite such as robust-v1"),
    "no benchmark": (
        ["--suite", "robust-v1", "--bands", "x"],
        "--bands is of a suite such as small",
    ),
    "no bands": (["--runs", "{}/log", "--bands", "x"], "no bands in x: No such file"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD.keys())
def test_what_contradicts_the_suite_is_refused_in_one_line(words, said, bands, tmp_path, capsys):
    words = [word.format(tmp_path) for word in words]
    algos = [] if "--runs" in words else ["--algos", "romi", "--log-root", str(tmp_path / "no")]
    assert cli.main(["compare", "--suite", "small-v1", *algos, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "no").exists()


@pytest.mark.slow
def test_romi_learns_as_it_did(tmp_path):
    """A whole run of the benchmark, 11,000 steps; a policy that has not learnt would be outside."""
    band = read_bands(SMALL).get((TASK, "romi"))
    if band is None:
        pytest.skip("the package has no band of ROMI yet")
    words = ["--task", TASK, "--preset", "small-v1", "--log-root", str(tmp_path)]
    cores = ["--dynamics-threads", "2", "--eval-async"]
    assert cli.main(["train", "romi", *words, *cores]) == 0
    assert cli.main(["check", str(tmp_path)]) == 0
    (record,) = (read_record(run) for run in find_runs([tmp_path]))
    unlearnt = [*list(record.curve.values())[:2], record.data_score]
    assert max(unlearnt) < band.low
