"""Runs without a simulator: estimates under their own names, and nothing called a score."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi import load_dataset, train
from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment import estimates as estimates_module
from offlinerlkit_romi.experiment.estimates import actions_of
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.rewards import discounted_values, piece_starts
from offlinerlkit_romi.ope import FQERows
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.policy_trainer.progress import Stage
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.runs import rows_of
from tests.support.stopping import before, terminate

BOUNDS = (own_functions.LOW, own_functions.HIGH)
FQE = [f"{name}{of}" for name in ("fqe", "fqe_behaviour") for of in ("", "_std", "_settled")]


@pytest.fixture
def data() -> Dataset:
    return load_dataset(
        own_functions.episodes(30, 40), name="tank", action_bounds=BOUNDS, termination="none"
    )


def run(algo: str, data: Dataset, root: Path, **values: Any) -> Any:
    tiny = {k: v for k, v in TINY_SETTINGS[algo].items() if k not in ("task", "eval_episodes")}
    settings = {**tiny, "epoch": 3, "log_root": str(root / "log"), **values}
    if algo != "bc":
        settings["gamma"] = 0.8  # a horizon of 21 steps
    return train(algo, data=data, verbosity=2, **settings)


def test_a_run_without_a_simulator_reports_estimates_and_no_score(
    data: Dataset, tmp_path: Path, capsys: Any
) -> None:
    summary = run("romi", data, tmp_path, estimate_freq=2)
    shown = capsys.readouterr().out
    rows, folder = rows_of(summary.run_dir), Path(summary.run_dir)
    keys = {f"estimate/{name}" for name in (*FQE, "model", "model_std", "behaviour")}
    assert [{k for k in keys if row[k]} for row in rows] == [set(), keys, keys]
    assert not [key for key in rows[0] if key.startswith("eval/")]
    last = {key: float(rows[-1][f"estimate/{key}"]) for key in summary.estimates}
    assert set(summary.estimates) == {*FQE, "model", "model_std", "behaviour"}
    assert summary.estimates == last and all(map(math.isfinite, last.values()))
    assert math.isnan(summary.score_last) and math.isnan(summary.score_behaviour)
    assert not summary.returns
    stored = json.loads((folder / "result/summary.json").read_text())
    assert stored["estimates"] == last and stored["score_last"] is None
    assert "score" not in summary.table().replace("an estimate, not a score", "")
    for words in ("FQE estimate", "model estimate", "data's own value", "fqe estimate "):
        assert words in shown
    assert "training without evaluation: no simulator was named (env)" in shown
    assert (folder / "result/estimates.png").read_bytes()[:4] == b"\x89PNG"
    assert not (folder / "result/learning_curve.png").exists()
    assert RunFolder(folder).estimates()[-1] == (12, last)


@pytest.mark.parametrize("algo", ["romi", "td3bc", "bc"])
def test_estimating_does_not_change_what_is_trained(
    algo: str, data: Dataset, tmp_path: Path
) -> None:
    with_, without = (
        run(algo, data, tmp_path, estimates=kind, estimate_freq=1) for kind in ("fqe", "none")
    )
    one, other = (
        torch.load(Path(s.run_dir) / "model/policy.pth", weights_only=True)
        for s in (with_, without)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "fqe" in with_.estimates and not without.estimates


def test_a_resumed_run_makes_the_estimates_of_an_uninterrupted_one(
    data: Dataset, tmp_path: Path
) -> None:
    told = {"keep_state": True, "checkpoint_share": 1.0, "estimate_freq": 1}
    whole = run("rambo", data, tmp_path, **told)
    part = run("rambo", data, tmp_path, algo_name="part", **told | {"epoch": 1})
    again = train("rambo", data=data, resume=part.run_dir, epoch=3)
    columns = [k for k in rows_of(whole.run_dir)[0] if k.startswith("estimate/")]
    for row, other in zip(rows_of(whole.run_dir), rows_of(again.run_dir), strict=True):
        assert [row[k] for k in columns] == [other[k] for k in columns]
    assert again.estimates == whole.estimates


def test_the_model_that_estimates_is_the_one_before_the_policy_trained(
    data: Dataset, tmp_path: Path
) -> None:
    summary = run("rambo", data, tmp_path, adv_weight=0.5)
    models = [
        torch.load(Path(summary.run_dir) / "model" / name, weights_only=True)
        for name in ("estimate_model/dynamics.pth", "dynamics.pth")
    ]
    assert any(not torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_an_algorithm_without_a_model_gets_one_when_told(
    data: Dataset, tmp_path: Path, small_model: None, capsys: Any
) -> None:
    assert set(run("td3bc", data, tmp_path).estimates) == {*FQE, "behaviour"}
    told = run("td3bc", data, tmp_path, estimates="both").estimates
    assert set(told) == {*FQE, "model", "model_std", "behaviour"}
    unknown = load_dataset(own_functions.episodes(3), name="tank", action_bounds=BOUNDS)
    assert "model" not in run("bc", unknown, tmp_path, estimates="both").estimates
    assert "no model estimate: no termination rule is known for tank" in capsys.readouterr().out


def test_rows_that_do_not_tell_the_episodes_get_no_estimates(
    data: Dataset, tmp_path: Path, capsys: Any
) -> None:
    order = np.random.default_rng(0).permutation(len(data))
    arrays = {name: values[order] for name, values in data.as_dict().items()}
    flags = np.zeros(len(data), bool)
    shuffled = replace(data, **arrays, timeouts=flags)
    assert not run("td3bc", shuffled, tmp_path).estimates
    assert "no estimates: rows do not tell the episodes" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^--estimates fqe needs episodes"):
        run("td3bc", shuffled, tmp_path, estimates="fqe")


def test_discounted_values_equal_a_loop_over_the_episodes(data: Dataset) -> None:
    starts = piece_starts(data)
    np.testing.assert_array_equal(starts, np.arange(30) * 40)
    expected = [
        sum(0.9**t * float(r) for t, r in enumerate(data.rewards[i : i + 40, 0])) for i in starts
    ]
    np.testing.assert_allclose(discounted_values(data, 0.9), expected, rtol=1e-6)


def test_actions_are_the_policys_block_by_block() -> None:
    class Doubles:
        calls = 0

        def select_action(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
            assert deterministic and len(obs) <= 7
            self.calls += 1
            return 2 * obs

    obs, policy = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), Doubles()
    np.testing.assert_array_equal(actions_of(policy, obs, 7), 2 * obs)
    assert policy.calls == 3


def one(obs: Any, act: Any, next_obs: Any) -> Any:
    return 0 * act[..., 0] + 1


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (10.0, -3.0)])
def test_all_estimates_are_in_the_datas_own_rewards(
    scale: float, bias: float, tmp_path: Path
) -> None:
    """One per step at a discount of 0.8 is worth 5, whatever the algorithm learns from."""
    log = [episode | {"rewards": np.ones(40)} for episode in own_functions.episodes(20, 40)]
    paying = load_dataset(log, name="tank", action_bounds=BOUNDS, termination="none", reward_fn=one)
    found = run("mopo", paying, tmp_path, reward_scale=scale, reward_bias=bias).estimates
    values = {name: found[name] for name in ("fqe", "fqe_behaviour", "model", "behaviour")}
    assert values == pytest.approx(dict.fromkeys(values, 5.0), abs=0.06)


def test_a_fit_that_did_not_settle_is_told_and_gives_no_number(
    data: Dataset, tmp_path: Path, capsys: Any
) -> None:
    summary = run("td3bc", data, tmp_path, fqe_steps=2, estimate_freq=1)
    shown = capsys.readouterr().out
    assert set(summary.estimates) == {"fqe_settled", "fqe_behaviour_settled", "behaviour"}
    assert summary.estimates["fqe_settled"] == summary.estimates["fqe_behaviour_settled"] == 0
    assert "fitted-Q evaluation did not settle, it gives no value: its values still moved" in shown
    assert "fqe estimate did not settle" in shown  # an epoch's line
    (line,) = [line for line in summary.table().splitlines() if "FQE estimate" in line]
    assert line.split() == ["FQE", "estimate", "-", "did", "not", "settle:", "no", "value"]
    assert not (Path(summary.run_dir) / "result/estimates.png").exists()


def test_the_datas_own_policy_is_evaluated_from_the_actions_that_followed(
    data: Dataset, tmp_path: Path
) -> None:
    asked: list[FQERows] = []
    with before(estimates_module, "fitted_q_evaluation", lambda rows, *_: asked.append(rows)):
        run("td3bc", data, tmp_path, estimate_freq=1)
    told = np.delete(np.arange(1200), np.arange(39, 1200, 40))  # the last rows tell no next action
    of_policy, of_data = asked[:2]
    assert len(asked) == 4  # the data's own policy once, the run's three times
    np.testing.assert_array_equal(of_data.obs, data.observations[told])
    np.testing.assert_array_equal(of_data.next_action, data.actions[told + 1])
    np.testing.assert_array_equal(of_data.start_action, data.actions[::40])
    assert len(of_policy.obs) == 1200


@pytest.mark.parametrize("of", ["fqe", "fqe_behaviour", "model"])
def test_a_signal_during_an_estimate_saves_a_state_to_go_on_from(
    of: str, data: Dataset, tmp_path: Path
) -> None:
    told = {"keep_state": True, "estimate_freq": 1, "actor_lr_schedule": "cosine"}
    whole = run("rambo", data, tmp_path, **told)
    calls: list[float] = []

    def strike(stage: Stage, share: float) -> None:
        assert len(calls) < 4, "it went on"
        if stage._title == estimates_module.TITLES[of]:
            calls.append(share)
            if len(calls) == 3:
                terminate()

    interrupted = pytest.raises(TrainingInterrupted, match="after step 4, state saved")
    with before(Stage, "__call__", strike), interrupted:
        run("rambo", data, tmp_path, algo_name="part", **told)
    (folder,) = (tmp_path / "log").glob("*/part*/seed_*")
    again = train("rambo", data=data, resume=str(folder))
    assert again.estimates == whole.estimates
    columns = [k for k in rows_of(whole.run_dir)[0] if not k.startswith("time/")]
    for row, other in zip(rows_of(whole.run_dir), rows_of(again.run_dir), strict=True):
        assert [row[k] for k in columns] == [other[k] for k in columns]


def test_a_model_fitted_for_estimates_looks_for_signals_after_every_epoch(
    data: Dataset, tmp_path: Path, small_model: None
) -> None:
    looked = []
    with before(Interrupts, "check", looked.append):
        run("td3bc", data, tmp_path, estimates="both")
    assert len(looked) == 3
