"""Steps timed as captured graphs beside eager ones; on a CPU a recorder stands in for graphs."""

from pathlib import Path
from runpy import run_path

import pytest
import torch

from offlinerlkit_romi.bench.ours import OurPieces
from offlinerlkit_romi.bench.report import find, tables
from offlinerlkit_romi.bench.workload import Workload, engines_beside_eager
from offlinerlkit_romi.envs import get_task
from tests.bench.conftest import TINY
from tests.support.recording import RecordedEngines

CPU = torch.device("cpu")
TABLES = Path(__file__).parents[2] / "benchmarks" / "tables.py"
TRAINED = ("policy step", "model update", "pre-training step", "rollout", "epoch")


def captured_by(engines):
    """What makes a benchmark capture, with these engines."""
    return {"engines": ("graph",), "make_engine": engines.make}


def test_every_piece_that_training_captures_has_a_captured_figure(masked_model_buffers, tiny_bench):
    engines = RecordedEngines()
    result = tiny_bench("--pieces", *TRAINED, "--algos", "romi", "td3bc", **captured_by(engines))
    rows = {(r["piece"], r["algo"]): r for r in result["rows"] if r["column"] == "captured"}
    eager = {(r["piece"], r["algo"]) for r in result["rows"] if r["column"] == "ours"}
    assert rows.keys() == eager and {piece for piece, _ in rows} == {*TRAINED}
    for row in rows.values():
        ratio = find(result, row["piece"], row["algo"], "ours") / row["cpu_ms"]
        assert row["engine"] == "graph" and "told" not in row
        assert row["eager_over_this"] == pytest.approx(ratio, rel=1e-3)
    assert rows["policy step", "romi"]["units_per_sample"] == 25  # divides a rollout's period
    assert rows["model update", "romi"]["units_per_sample"] == 8  # all of a round
    assert all(0 < graphs.captures < graphs.replays for graphs in engines.made)
    shown = tables(result)
    assert "eager / captured" in shown
    assert "| romi, captured " in shown and "| romi / rambo, captured " in shown


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_captured_steps_are_timed_beside_eager_ones(tiny_bench):
    result = tiny_bench("--device", "cuda", "--pieces", *TRAINED, "--algos", "romi", "td3bc")
    captured = [row for row in result["rows"] if row["column"] == "captured"]
    assert {row["piece"] for row in captured} == {*TRAINED}
    assert {row["engine"] for row in captured} == {"graph"} and result["headline"] == "wall"
    assert len(captured) == len(result["rows"]) / 2
    assert "Captured steps need" not in tables(result)


@pytest.mark.parametrize(("ask", "steps"), [("policy_step", 25), ("model_update", 8)])
def test_a_captured_sample_does_what_an_eager_one_does(ask, steps, masked_model_buffers):
    engines = RecordedEngines()
    sizes = TINY | captured_by(engines) | {"steps": steps}
    workload = Workload(get_task("walker2d-medium-v2"), CPU, **sizes)
    ends = []
    for mode in ("eager", "graph"):
        pieces = OurPieces(workload, mode=mode)
        work = getattr(pieces, ask)("romi")
        assert work.units == steps
        before = [p.clone() for p in pieces.made("romi")[0].parameters()]
        work.run()
        ends.append(list(pieces.made("romi")[0].parameters()))
        assert not all(map(torch.equal, before, ends[-1]))
    assert all(map(torch.equal, *ends)) and engines.made[0].replays == 1


def test_both_kinds_of_update_are_captured_before_the_first_sample():
    """TD3+BC steps its actor at every other update: two graphs."""
    engines = RecordedEngines()
    workload = Workload(get_task("walker2d-medium-v2"), CPU, **TINY | captured_by(engines))
    work = OurPieces(workload, mode="graph").policy_step("td3bc")
    captures = []
    for _ in range(work.warm_ups + 3):
        work.run()
        captures.append(engines.made[0].captures)
    assert captures[work.warm_ups - 1 :] == [2] * 4


def test_a_step_that_is_not_captured_after_all_has_no_captured_figure(tiny_bench, capsys):
    sizes = captured_by(RecordedEngines(refused_after=0))
    result = tiny_bench("--pieces", "policy step", "--algos", "bc", **sizes)
    _, captured = result["rows"]
    line = "the policy step runs eagerly: capturing it failed: operation not permitted"
    assert captured["engine"] == "eager" and captured["told"] == [line]
    assert "eager_over_this" not in captured
    assert find(result, "policy step", "bc", "captured") is None
    assert f"policy step bc, captured: {line}." in tables(result)
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_on_a_cpu_captured_steps_are_timed_where_they_are_asked_for(engine, tiny_bench):
    words = "--pieces", "policy step", "--algos", "bc", "--hidden-dims", "8", "--batch-size", "4"
    result = tiny_bench(*words, "--engine", engine)
    assert result["sizes"]["overrides"]["hidden_dims"] == [8]
    shown, captured = tables(result), engine == "graph"
    assert {row["column"] for row in result["rows"]} == (
        {"ours", "captured"} if captured else {"ours"}
    )
    assert ("eager / captured" in shown) == captured
    assert ("Captured steps were not timed here." in shown) != captured


def test_compiled_steps_are_timed_beside_eager_ones_on_a_cpu(tiny_bench, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda body, **_: compiled.append(body) or body)
    result = tiny_bench("--pieces", *TRAINED, "--algos", "rambo", "--engine", "compile")
    pieces = {row["piece"] for row in result["rows"] if row["column"] == "compiled"}
    # on a CPU a rollout drops rows that have ended: training does not hand it to the engine
    assert pieces == {*TRAINED} - {"rollout"}
    assert compiled and "eager / compiled" in tables(result)


@pytest.mark.parametrize(
    ("asked", "device", "engines"),
    [
        ("auto", "cpu", ()),
        ("auto", "cuda", ("graph",)),
        ("eager", "cuda", ()),
        ("graph", "cuda", ("graph",)),
        ("graph", "cpu", ("graph",)),
        ("compile", "cpu", ("compile",)),
        ("compile", "cuda", ("compile",)),
    ],
)
def test_engines_by_name_and_device(asked, device, engines):
    assert engines_beside_eager(asked, torch.device(device)) == engines


def test_the_target_for_captured_steps_waits_for_a_measurement():
    target = run_path(str(TABLES))["captured_target"]
    nothing = target({"seeds": {"rows": []}})
    assert nothing[3:] == ["", "", "", "not measured"]
    rows = [
        {"piece": piece, "algo": "romi", "column": column, "wall_ms": ms}
        for piece, column, ms in [
            ("policy step", "ours", 3.0),
            ("model update", "ours", 6.0),
            ("policy step", "captured", 0.25),
            ("model update", "captured", 0.5),
        ]
    ]
    result = {"rows": rows, "headline": "wall", "peak_gflops": {}}
    assert target({"a": result})[3:] == ["0.75 ms, 12.00 times", "", "", "yes"]
    rows[3]["wall_ms"] = 0.9
    assert target({"a": result})[-1] == "no"
