"""`sweep` reads its file strictly, plans every run once, and makes what is missing."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.sweep import perform
from offlinerlkit_romi.experiment.sweep.file import SweepFile
from offlinerlkit_romi.experiment.sweep.plan import read_plan
from tests.experiment.conftest import TASK, TINY, TINY_SETTINGS

GOOD = {"tasks": [TASK], "algorithms": ["td3bc", "romi"], "seeds": [0, 1]}


def plan_of(tmp_path, text=None, **keys):
    import yaml

    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(GOOD | keys) if text is None else text)
    return read_plan(str(path))


def points(plan, search=0):
    study = plan.studies[search]
    return [dict(trial.point) for trial in plan.trials(study)]


def test_every_task_algorithm_and_seed_is_planned_once(tmp_path):
    plan = plan_of(tmp_path, tasks=[TASK, "hopper-medium-v2"], options={"epoch": 7})
    jobs = [j for study in plan.studies for t in plan.trials(study) for j in t.jobs]
    told = [(j.resolved.config.task, j.resolved.algo, j.seed) for j in jobs]
    tasks = (TASK, "hopper-medium-v2")
    assert told == [(t, a, s) for t in tasks for a in ("td3bc", "romi") for s in (0, 1)]
    assert {job.resolved.config.epoch for job in jobs} == {7}
    assert {job.label for job in jobs} == {"td3bc", "romi"}  # as `train` and `compare` name them


def test_an_axis_varies_the_algorithms_that_have_it_alone(tmp_path):
    plan = plan_of(tmp_path, axes={"xi": [0.05, 0.1], "romi.rollout_length": [1, 5]})
    assert points(plan, 0) == [{}, {}]
    assert len(points(plan, 1)) == 2 * 2 * 2
    trial = plan.trials(plan.studies[1])[-1]
    assert trial.jobs[0].label == "romi,xi=0.1,rollout_length=5"
    config = trial.jobs[0].resolved.config
    assert (config.xi, config.rollout_length, config.seed) == (0.1, 5, 1)


def test_an_option_for_one_algorithm_beats_that_for_all(tmp_path):
    plan = plan_of(tmp_path, options={"romi.epoch": 3, "epoch": 7, "hidden_dims": [8, 8]})
    configs = [plan.trials(study)[0].config for study in plan.studies]
    assert [config.epoch for config in configs] == [7, 3]
    assert configs[0].hidden_dims == (8, 8)


def test_seeds_share_a_process_as_many_as_asked_for(tmp_path):
    plan = plan_of(tmp_path, seeds=[0, 1, 2], seeds_per_trial=2)
    trials = plan.trials(plan.studies[0])
    assert [[job.seed for job in trial.jobs] for trial in trials] == [[0, 1], [2]]
    assert plan.room(trials, gpus=0)[1] == 0.0
    assert plan.room(trials, gpus=2)[1] == 1.0
    assert plan_of(tmp_path, gpus=0.25, cpus=3).room(trials, gpus=2) == (3, 0.25)


def test_random_draws_are_within_their_ranges_and_the_same_again(tmp_path):
    axes = {
        "critic_lr": {"from": 1e-5, "to": 1e-3, "log": True},
        "batch_size": {"from": 2, "to": 4},
        "romi.xi": [0.05, 0.1],
    }
    keys = {"search": "random", "trials": 40, "axes": axes, "seeds": [0]}
    study = plan_of(tmp_path, **keys).studies[1]
    drawn = study.draws(40, seed=0)
    assert drawn == study.draws(40, seed=0) != study.draws(40, seed=1)
    rates = [float(point["critic_lr"]) for point in drawn]
    assert min(rates) >= 1e-5 and max(rates) <= 1e-3
    assert 10 < sum(rate < 1e-4 for rate in rates) < 30  # half of the decades each
    assert {point["batch_size"] for point in drawn} == {"2", "3", "4"}
    assert {point["xi"] for point in drawn} == {"0.05", "0.1"}
    assert points(plan_of(tmp_path, **keys | {"trials": 2}), 1) == drawn[:2]
    assert [study.point(study.trial(point, [0]).jobs[0].label) for point in drawn[:2]] == drawn[:2]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"seed": [1]}, "unknown key 'seed': did you mean seeds or"),
        ({"algorithms": ["romy"]}, "unknown algorithm 'romy': did you mean romi"),
        ({"algorithms": []}, "algorithms is empty: name at least one"),
        ({"seeds": [0, 0]}, "seeds has 0 more than once: each once"),
        ({"seeds": ["a"]}, "seeds is 'a': expected int"),
        ({"seeds": [-1]}, "seeds is [-1]: it must be 0 or more"),
        ({"tasks": ["hoper-medium-v2"]}, "did you mean hopper-medium-v2"),
        ({"tasks": []}, "no tasks: write tasks:"),
        ({"options": {"actr_lr": 1}}, "options: unknown option 'actr_lr': did you mean actor_lr"),
        ({"options": {"epoch": "many"}}, "--epoch"),
        ({"options": {"mopo.epoch": 3}}, "options.mopo.epoch: unknown algorithm 'mopo'"),
        ({"options": {"seed": 3}}, "options.seed: list it under seeds"),
        ({"options": [1]}, "options is [1]: write names and values below it"),
        ({"axes": {"xi": []}}, "axes.xi is empty: list its values"),
        ({"axes": {"xi": None}}, "axes.xi is empty: list its values"),
        ({"axes": {"xi": 0.1}}, "axes.xi is 0.1: list its values"),
        ({"axes": {"xi": [0.1, 0.1]}}, "axes.xi has a value twice"),
        ({"axes": {"xi": [-1]}}, "--xi is -1"),
        ({"axes": {"xi": [0.1], "romi.xi": [0.2]}}, "axes: romi has xi twice"),
        ({"axes": {"xi": {"from": 0, "to": 1}}}, "axes.xi is a range, which a grid has not"),
        ({"axes": {"xi": {"from": 1, "to": 0}}, "search": "random"}, "rising and finite"),
        ({"axes": {"xi": {"from": 0, "to": 1, "log": True}}, "search": "random"}, "above 0"),
        ({"axes": {"xi": {"form": 0, "to": 1}}, "search": "random"}, "did you mean from"),
        ({"search": "optuna"}, "search: optuna has nothing to choose between: name axes"),
        ({"search": "bayes"}, "unknown value of search 'bayes'"),
        ({"asha": {"grce": 1}, "axes": {"xi": [0.1]}}, "asha: unknown key 'grce'"),
        ({"asha": {"factor": 1}, "axes": {"xi": [0.1]}}, "asha.factor is 1"),
        ({"asha": {"grace": True}, "axes": {"xi": [0.1]}}, "asha.grace is True: give a whole"),
        ({"axes": {"xi": {"from": False, "to": True}}, "search": "random"}, "rising and finite"),
        ({"gpus": -1}, "gpus is -1: it must be 0 or more"),
        ({"trials": 0}, "trials is 0: it must be 1 or more"),
    ],
)
def test_a_broken_file_ends_in_one_line_that_names_it(keys, told, tmp_path, capsys):
    import yaml

    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(GOOD | keys))
    assert cli.main(["sweep", str(path), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}") and told in line
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read (No such file or directory): give a sweep file"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"tasks: [a\nseeds: 3", ", line 2, column 6: "),
        (b"seeds: *x", ", line 1, column 8: found undefined alias"),
        (b"- a", "holds ['a']: write keys and values"),
        (b"", "holds None: write keys and values"),
        (b"seeds: [0]", "no algorithms: write algorithms:"),
    ],
)
def test_what_is_no_sweep_file_ends_in_one_line_with_its_place(text, told, tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    if text is not None:
        path.write_bytes(text)
    assert cli.main(["sweep", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}") and told in line


def test_what_needs_ray_is_refused_without_it(tmp_path):
    plan_of(tmp_path, search="optuna", axes={"romi.xi": [0.1]})
    with pytest.raises(UserError, match=r"search: optuna needs Ray: pip install .*\[sweep\]"):
        perform.perform(str(tmp_path / "sweep.yaml"), "local", None, False)
    plan_of(tmp_path)
    with pytest.raises(UserError, match="--jobs is 2: it must be 1 or more, and is for --on local"):
        perform.perform(str(tmp_path / "sweep.yaml"), "ray", 2, False)


def test_places_of_the_pool_take_turns_on_the_gpus_there_are():
    devices = [perform.device_of(place, 2, "")["CUDA_VISIBLE_DEVICES"] for place in range(4)]
    assert devices == ["0", "1", "0", "1"]
    assert perform.device_of(1, 0, "") == {"CUDA_VISIBLE_DEVICES": ""}
    assert perform.device_of(3, 2, "4,7") == {"CUDA_VISIBLE_DEVICES": "7"}


def test_the_pages_own_files_are_sweep_files(tmp_path):
    page = Path(__file__).parents[2] / "docs/sweeps.md"
    texts = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    plans = [plan_of(tmp_path, text) for text in texts]
    assert [len(plan.studies) for plan in plans] == [6, 1]
    assert len(plans[0].trials(plans[0].studies[0])) == 3
    told = re.findall(r"^\| (`[^|]+`) \|", page.read_text("utf-8"), re.M)
    keys = {name for line in told for name in re.findall(r"`(\w+)`", line)}
    assert keys == {field.name for field in fields(SweepFile)}


def tiny(tmp_path, root, **keys):
    known = TINY if "romi" in keys.get("algorithms", ["romi"]) else TINY_SETTINGS["td3bc"]
    options = {name: list(v) if isinstance(v, tuple) else v for name, v in known.items()}
    del options["task"]
    options |= {"log_root": str(tmp_path / root)}
    return plan_of(tmp_path, options=options, **keys)


def test_what_is_finished_is_not_made_again(made, tmp_path, capsys):
    plan = tiny(tmp_path, "log", algorithms=["td3bc"], axes={"actor_lr": [1e-4, 1e-3]})
    words = ["sweep", str(plan.path), "--on", "local"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert not made and "4 trials, 4 of them to carry out" in capsys.readouterr().out
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert len(made) == 4 and re.search(r"td3bc,actor_lr=0.001 +2 of 2 +4/4", shown)
    assert "repeat it on fresh seeds" not in shown  # nothing was evaluated
    assert plan.path.with_suffix(".md").name in {p.name for p in tmp_path.glob("log/sweep/*")}
    assert cli.main(words) == 0
    assert len(made) == 4 and "4 trials, 0 of them" in capsys.readouterr().out


def test_a_trial_that_died_is_given_again_and_one_that_fails_is_told(made, tmp_path, capsys):
    codes = {"td3bc": [-9, 1, 0], "romi": [2]}

    def dying(todo, *_, **__):
        made.extend(command.name for command in todo)
        for command in todo:
            command.log.parent.mkdir(parents=True, exist_ok=True)
            command.log.write_text("its last word\n")
        return [codes[command.name.split()[1]].pop(0) for command in todo]

    made.run = dying
    plan = tiny(tmp_path, "log", seeds=[0])
    assert cli.main(["sweep", str(plan.path), "--on", "local"]) == 2
    assert [name.split()[1] for name in made] == ["td3bc", "romi", "td3bc", "td3bc"]
    shown = capsys.readouterr()
    assert f"{TASK} romi seed 0: its last word (log: " in shown.out
    assert "td3bc seed 0:" not in shown.out
    assert shown.err == "error: 1 trials failed, the lines above say how\n"
