"""What `evaluate` says of a policy under shifts, and what it leaves behind."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.envs import EvalSettings, Evaluator, get_task, normalized_score
from offlinerlkit_romi.envs.shifts import name_of, parse
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.evaluation import SEED_OFFSET
from offlinerlkit_romi.experiment.folder import (
    MANIFEST,
    ROBUSTNESS,
    ROBUSTNESS_FIGURE,
    RunFolder,
)
from offlinerlkit_romi.experiment.reload import evaluate, load_policy
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.robustness import (
    Outcome,
    blocks_of,
    conditions_of,
    merged,
    read_outcomes,
    simulators,
    write_outcomes,
)
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.experiment.user_data import check_task
from offlinerlkit_romi.system.files import file_digest
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.upstream.checkpoints import KIT_RUNS, TASK

ANTMAZE = "antmaze-umaze-v0"


def outcome(condition: str, mean: float, **changes) -> Outcome:
    shifts = parse(condition)
    kind = "+".join(shift.kind for shift in shifts)
    block = shifts[0].block if shifts else "clean"
    made = Outcome(condition, kind, "", "", block, 20, 0, "score", mean, 1.0, 0.0, mean / 2, 9.0)
    return replace(made, **changes)


def test_clean_comes_first_and_none_twice_however_it_is_written() -> None:
    assert conditions_of(["delta:0.1", "delta:0.10:step"], None) == ["clean", "delta:0.1:step"]
    assert len(conditions_of(["delta:0.1"], "robust-v1")) == 36
    with pytest.raises(
        UserError, match="unknown suite 'robust': did you mean robust-v1 or robust-small"
    ):
        conditions_of([], "robust")


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [outcome("clean", 1 / 3), outcome("delta:0.1:step", math.pi, critic="own")]
    write_outcomes(tmp_path / "result/x.csv", rows)
    assert read_outcomes(tmp_path / "result/x.csv") == rows
    (tmp_path / "result/x.csv").write_text("condition,kind\nclean,\n")
    with pytest.raises(UserError, match=r"x\.csv is damaged"):
        read_outcomes(tmp_path / "result/x.csv")


def test_a_later_outcome_takes_the_place_of_its_like_and_other_weights_leave() -> None:
    old = [outcome("clean", 1.0, weights="a"), outcome("delta:0.1:step", 2.0, weights="a")]
    again = [outcome("clean", 3.0, weights="a")]
    assert [x.mean for x in merged(old, again)] == [3.0, 2.0]
    assert [x.mean for x in merged(old, [outcome("clean", 5.0, weights="b")])] == [5.0]
    more = [outcome("clean", 4.0, weights="a", episodes=5)]
    assert [x.mean for x in merged(old, more)] == [1.0, 2.0, 4.0]


def test_blocks_tell_mean_drop_worst_condition_and_worst_tenth_with_spread_over_seeds() -> None:
    def run(shift: float) -> dict[str, Outcome]:
        means = {"clean": 50, "delta:0.1:step": 40, "gaussian:0.1:raw": 20, "mass:0.8:factor": 30}
        means |= {"gravity:0.8:factor": 10, "gravity:1.2:factor": 20}
        return {name: outcome(name, mean + shift) for name, mean in means.items()}

    blocks = {(b.block, b.label): b for b in blocks_of({"a": [run(0), run(10)], "b": [run(0)]})}
    assert [b for b, label in blocks if label == "a"] == [
        *("clean", "sensor noise", "dynamics", "gravity", "mass"),
    ]
    noise = blocks["sensor noise", "a"]
    assert (noise.mean, noise.runs, noise.conditions) == (35.0, 2, 2)
    assert noise.std == pytest.approx(np.std([30, 40], ddof=1))
    assert noise.drop == pytest.approx(100 * np.mean([1 - 30 / 50, 1 - 40 / 60]))
    assert (noise.worst, noise.worst_mean) == ("gaussian:0.1:raw", 25.0)
    assert noise.tail == 17.5 and blocks["gravity", "b"].mean == 15.0
    assert math.isnan(blocks["clean", "a"].drop) and math.isnan(blocks["gravity", "b"].std)
    poor = {name: replace(x, mean=x.mean - 45) for name, x in run(0).items()}
    assert math.isnan(blocks_of({"a": [poor]})[1].drop)


@pytest.fixture
def finished(tiny_data, tmp_path: Path) -> Path:
    return Path(train("td3bc", **TINY_SETTINGS["td3bc"], log_root=str(tmp_path)).run_dir)


def test_a_run_is_tested_under_each_condition_and_keeps_its_table(finished: Path) -> None:
    conditions = ["gaussian:0.1:std", "mass:1.2+action_delay:1"]
    plain = evaluate(finished, episodes=2)
    assert not plain.outcomes and not (finished / ROBUSTNESS).exists()
    found = evaluate(finished, episodes=2, shifts=conditions)
    assert list(found.outcomes) == [
        "clean",
        "gaussian:0.1:std",
        "mass:1.2:factor+action_delay:1:steps",
    ]
    clean, noisy, both = found.outcomes.values()
    assert (clean.mean, clean.std, clean.length) == (plain.score, plain.score_std, 1000)
    assert found.score == plain.score and len({clean.mean, noisy.mean, both.mean}) == 3
    assert (both.kind, both.scale, both.unit) == ("mass+action_delay", "1.2+1", "factor+steps")
    assert both.block == "together" and noisy.min == noisy.cvar10 < noisy.mean
    table = found.table()
    assert "gaussian:0.1:std" in table and "worst tenth" in table
    assert read_outcomes(finished / ROBUSTNESS) == list(found.outcomes.values())
    assert (finished / ROBUSTNESS_FIGURE).stat().st_size > 10_000
    before = (finished / ROBUSTNESS).read_bytes()
    evaluate(finished, episodes=2, shifts=conditions[::-1])
    assert sorted((finished / ROBUSTNESS).read_bytes()) == sorted(before)
    evaluate(finished, episodes=2, shifts=["drop:0.1:2steps"])
    assert len(read_outcomes(finished / ROBUSTNESS)) == 4


def test_the_std_that_scales_count_is_the_runs_own_record_or_its_datas(finished: Path) -> None:
    std = make_dataset().observations.std(0, dtype=np.float64)
    manifest = json.loads((finished / MANIFEST).read_text())
    assert manifest["data"].pop("obs_std") == std.tolist()
    told = evaluate(finished, episodes=1, shifts=["uniform:0.1:std"]).outcomes
    (finished / MANIFEST).write_text(json.dumps(manifest))
    assert evaluate(finished, episodes=1, shifts=["uniform:0.1:std"]).outcomes == told


def test_a_resumed_run_gives_the_table_of_the_run_that_never_stopped(tiny_data, tmp_path) -> None:
    settings = TINY_SETTINGS["td3bc"] | {"keep_state": True}
    tables = []
    for root, epochs in (("whole", (2,)), ("parts", (1, 2))):
        run_dir = ""
        for epoch in epochs:
            told = {"log_root": str(tmp_path / root), "epoch": epoch, "resume": run_dir}
            run_dir = train("td3bc", **settings | told).run_dir
        found = evaluate(run_dir, episodes=2, shifts=["delta:0.1", "gravity:0.8"])
        tables.append([replace(x, weights="") for x in found.outcomes.values()])
    assert tables[0] == tables[1]


def test_a_kits_checkpoint_is_tested_alike_and_asks_for_its_data_where_std_counts(tmp_path) -> None:
    shutil.copytree(KIT_RUNS / "bc", tmp_path / "bc")
    facts = {"algo": "bc", "task": TASK, "episodes": 2}
    found = evaluate(tmp_path / "bc", shifts=["delta:0.2", "gaussian:0.2:raw", "mass:0.7"], **facts)
    assert len({x.mean for x in found.outcomes.values()}) == 4
    assert read_outcomes(tmp_path / "bc" / ROBUSTNESS) == list(found.outcomes.values())
    with pytest.raises(UserError, match=r"does not keep the std .* give --data, or data= from"):
        evaluate(tmp_path / "bc", shifts=["gaussian:0.2:std"], **facts)


def test_without_critics_a_suite_stops_before_it_plays_and_another_runs_will_do(
    finished: Path, tmp_path: Path, capsys
) -> None:
    cloned = train("bc", **TINY_SETTINGS["bc"], log_root=str(tmp_path)).run_dir
    words = ["evaluate", cloned, "--episodes", "1"]
    assert cli.main([*words, "--suite", "robust-v1"]) == 2
    assert "BC has no critics: give --attack-critic RUN" in capsys.readouterr().err
    assert not (Path(cloned) / ROBUSTNESS).exists()
    shifts = ["--shift", "delta:0.1", "min_q:0.5:std"]
    assert cli.main([*words, *shifts, "--attack-critic", str(finished)]) == 0
    unread = [*words, "--suite", "robust-small-v1", "--attack-critic", str(finished)]
    assert cli.main(unread) == 2
    assert "--attack-critic: no condition here is a min_q attack" in capsys.readouterr().err
    rows = {row.kind: row for row in read_outcomes(Path(cloned) / ROBUSTNESS)}
    assert (rows["min_q"].critic, rows["delta"].critic) == (str(finished), "")
    assert rows["min_q"].mean != rows[""].mean
    shutil.copytree(KIT_RUNS / "edac", tmp_path / "edac")
    (tmp_path / "edac/record").mkdir()
    told = json.dumps({"algo_name": "edac", "task": TASK})
    (tmp_path / "edac/record/hyper_param.json").write_text(told)
    with pytest.raises(
        UserError, match="cannot value halfcheetah-random-v2: take a run of its sim"
    ):
        evaluate(cloned, shifts=["min_q:0.1:raw"], attack_critic=tmp_path / "edac")


def test_the_command_line_tests_several_runs(finished: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "copy"
    shutil.copytree(finished, other)
    words = ["evaluate", str(finished), str(other), "--episodes", "1", "--shift", "delta:0.2"]
    assert cli.main([*words, "mass:0.8"]) == 0
    assert capsys.readouterr().out.count("mass:0.8:factor") == 4
    assert (finished / ROBUSTNESS).read_bytes() == (other / ROBUSTNESS).read_bytes()
    assert cli.main([*words, "mass:0"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: shift mass:0:factor: the scale of mass is a f"
    )


def test_evaluations_beside_training_play_the_shifts_and_change_nothing_else(
    tiny_data, tmp_path: Path
) -> None:
    told = TINY_SETTINGS["td3bc"] | {"eval_episodes": 1, "log_root": str(tmp_path)}
    shifts = ("gaussian:0.2:std", "min_q:0.1:std", "mass:0.7")
    plain, shifted = (train("td3bc", **told, eval_shift=x) for x in ((), shifts))
    assert plain.score_last == shifted.score_last
    columns = [f"shifted/{name_of(parse(shift))}" for shift in shifts]
    rows = RunFolder(shifted.run_dir).rows()
    assert not any("shifted" in name for row in RunFolder(plain.run_dir).rows() for name in row)
    assert all(len({row[name] for name in columns}) == 3 for row in rows)
    policy = load_policy(shifted.run_dir, "cpu")
    std = make_dataset().observations.std(0, dtype=np.float64)
    world = Evaluator(told["task"], EvalSettings(1, SEED_OFFSET, obs_std=std))
    world.load_state_dict({"calls": len(rows) - 1})
    for shift, column in zip(shifts, columns, strict=True):
        score = normalized_score(world.under(shift)(policy).returns.mean(), told["task"])
        assert rows[-1][column] == pytest.approx(score, abs=1e-3)


def test_shifts_beside_training_are_refused_before_it_begins(tiny_data, tmp_path: Path) -> None:
    told = TINY_SETTINGS["bc"] | {"eval_episodes": 1, "log_root": str(tmp_path)}
    with pytest.raises(
        UserError, match=r"--eval-shift is gaussian:0.1: it must be KIND:SCALE.*names no unit"
    ):
        train("bc", **told, eval_shift=("gaussian:0.1",))
    with pytest.raises(UserError, match="has no gravity; it knows"):
        check_task(settle("bc", {"eval_shift": ("gravity:0.8",)}).config, get_task(ANTMAZE))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="BC has no critics"):
        train("bc", **told, eval_shift=("min_q:0.1:raw",))


def test_compare_sets_runs_under_a_suite_side_by_side_and_plays_what_they_do_not_keep(
    tiny_data, tmp_path: Path, capsys
) -> None:
    told = TINY_SETTINGS["td3bc"] | {"log_root": str(tmp_path / "log")}
    runs = [RunFolder(train("td3bc", **told, seed=seed).run_dir) for seed in (0, 1)]
    conditions = conditions_of((), "robust-small-v1")
    for seed, run in enumerate(runs):
        facts = simulators() | {"weights": file_digest(run.weights)[:12], "episodes": 1}
        kept = [outcome(name, 50.0 + i + 10 * seed, **facts) for i, name in enumerate(conditions)]
        write_outcomes(run.path / ROBUSTNESS, kept if seed else kept[:-1])
    words = ["compare", "--runs", str(tmp_path / "log"), "--out", str(tmp_path / "out")]
    words += ["--suite", "robust-small-v1", "--episodes", "1"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "robust-small-v1: td3bc seed 1" in said and "drop %" in said
    stem = tmp_path / "out/robust-small-v1_halfcheetah-random-v2"
    with open(f"{stem}.csv", newline="") as file:
        blocks = {row["block"]: row for row in csv.DictReader(file)}
    noise = blocks["sensor noise"]
    assert (noise["runs"], float(noise["mean"])) == ("2", 50 + 1.5 + 5)
    assert float(noise["std"]) == pytest.approx(np.std([0, 10], ddof=1))
    assert blocks.keys() >= {"clean", "attacks", "sensor faults", "dynamics", "mass", "gravity"}
    assert "![score against scale]" in Path(f"{stem}.md").read_text()
    assert Path(f"{stem}.png").stat().st_size > 10_000
    assert len(Path(f"{stem}_conditions.csv").read_text().splitlines()) == 1 + 2 * 11
    # what the first run did not keep was played, the rest was not
    first, second = (read_outcomes(run.path / ROBUSTNESS) for run in runs)
    assert {x.condition for x in first} == set(conditions) and len(second) == 11
    assert next(x for x in first if x.condition == conditions[-1]).length == 1000
    assert next(x for x in first if x.condition == conditions[3]).mean == 53.0
