import json
import os

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.bench import command
from offlinerlkit_romi.bench.report import find, tables
from offlinerlkit_romi.bench.workload import PIECES
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from tests.bench.conftest import TINY, make_checkout
from tests.upstream.kit import NAMES as KIT

OURS_ALONE = {algo for algo in ALGORITHMS if f"{algo.upper()}Policy" not in KIT["policy"]}


def test_every_algorithm_and_every_piece_has_its_row(tiny_bench):
    result = tiny_bench("--quick")
    rows = result["rows"]
    steps = [row["algo"] for row in rows if row["piece"] == "policy step"]
    assert steps == list(ALGORITHMS)
    assert [row["algo"] for row in rows if row["piece"] == "model update"] == ["romi", "rambo"]
    names = {row["piece"] for row in rows}
    assert names == {*PIECES, "evaluation, one by one"}
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 and row["samples"] == 1 for row in rows)
    assert all(row["gflop"] for row in rows if row["piece"] == "policy step")
    assert {row["algo"] for row in rows if row["piece"] == "epoch"} == {"romi", "rambo"}
    assert {row["engine"] for row in rows} == {"eager"} and result["complete"]


def test_a_result_goes_through_a_file_into_the_same_tables(tiny_bench, tmp_path, capsys):
    words = ("--pieces", "policy step", "--algos", "bc", "rambo")
    result = tiny_bench(*words)
    path = tmp_path / "out.json"
    path.write_text(json.dumps(result), "utf-8")
    assert cli.main(["bench", "--table", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown == tables(result) + "\n"
    assert shown.count("| policy step ") == 2


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    out = tmp_path / "bench.json"
    words = ["--pieces", "policy step", "--algos", "bc", "--out", str(out)]
    assert command.main(words, **TINY) == 0
    result = json.loads(out.read_text("utf-8"))
    assert tables(result) in capsys.readouterr().out
    # no folder of this machine in what may be committed
    assert result["command"] == ["offlinerlkit-romi", "bench", *words[:-1], "bench.json"]
    assert str(tmp_path) not in out.read_text("utf-8")


def test_a_checkout_is_timed_beside_ours(tiny_bench, tmp_path):
    make_checkout(tmp_path)
    result = tiny_bench("--against", str(tmp_path))
    kit = {
        (row["piece"], row["algo"]) for row in result["rows"] if row["column"] == "OfflineRL-Kit"
    }
    ours = {(row["piece"], row["algo"]) for row in result["rows"] if row["column"] == "ours"}
    # the stand-in has the kit's policies and no trainer
    lacking = {("policy step", algo) for algo in OURS_ALONE} | {("model update", "romi")}
    lacking |= {("evaluation", ""), ("evaluation, one by one", "")}
    lacking |= {("epoch", "romi"), ("epoch", "rambo")}
    assert ours - kit == lacking
    ratio = find(result, "rollout", "", "OfflineRL-Kit") / find(result, "rollout", "", "ours")
    assert f" {ratio:.2f} |" in tables(result)


@pytest.mark.upstream
@pytest.mark.skipif("OFFLINERLKIT_PATH" not in os.environ, reason="OFFLINERLKIT_PATH names no kit")
def test_the_kit_itself_is_timed_beside_ours(tiny_bench):
    result = tiny_bench("--against", os.environ["OFFLINERLKIT_PATH"])
    kit = [row for row in result["rows"] if row["column"] == "OfflineRL-Kit"]
    assert {row["algo"] for row in kit} >= set(ALGORITHMS) - OURS_ALONE
    names = {"model update", "pre-training step", "rollout", "evaluation", "loading"}
    assert names <= {row["piece"] for row in kit}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "nowhere"], "--against nowhere: no offlinerlkit/policy there"),
        (["--algos", "rmi"], "unknown algorithm 'rmi': did you mean romi"),
        (["--pieces", "rolout"], "unknown piece 'rolout': did you mean rollout"),
        (["--task", "walker-medium-v2"], "unknown task 'walker-medium-v2'"),
        (["--threads", "0"], "--threads is 0: it must be 1 or more"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--out", "nowhere/bench.json"], "--out nowhere/bench.json: give a file in a folder"),
        (["--table", "nowhere.json"], "--table nowhere.json: not a file that `bench --out` wrote"),
        (["--repeats", "few"], "--repeats: 'few' is no number; see"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, here, capsys):
    assert cli.main(["bench", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
