"""Checkpoints are kept evenly, loaded like any weights, and chosen by their data alone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi import cli, evaluate, load_policy, select, train
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.selection import rank_correlation
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.comparing import differences, outcome
from tests.support.runs import read_json


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A log of the tank in a file."""
    log = own_functions.episodes(30, 40)
    path = tmp_path_factory.mktemp("data") / "tank.npz"
    np.savez(
        path,
        observations=np.concatenate([e["observations"][:-1] for e in log]),
        next_observations=np.concatenate([e["observations"][1:] for e in log]),
        actions=np.concatenate([e["actions"] for e in log]),
        rewards=np.concatenate([e["rewards"] for e in log]),
        terminals=np.zeros(1200, bool),
        timeouts=np.arange(1, 1201) % 40 == 0,
    )
    return path


def run(algo, rows, root, **values):
    tiny = {k: v for k, v in TINY_SETTINGS[algo].items() if k != "task"}
    settings = tiny | {"epoch": 6, "gamma": 0.8, "log_root": str(root), "eval_async": False}
    settings |= {"env": "tests.experiment.own_functions:make_short_tank", "eval_episodes": 1}
    settings |= {"data": str(rows), "termination": "none", "keep_checkpoints": 4} | values
    return Path(train(algo, **settings).run_dir)


def test_kept_checkpoints_are_spread_evenly_and_change_nothing_of_the_run(rows, tmp_path):
    folder = run("td3bc", rows, tmp_path)
    kept = RunFolder(folder).kept()
    assert list(kept) == [8, 12, 20, 24]  # epochs 2, 3, 5, 6 of 4 steps
    final = torch.load(folder / "model/policy.pth", weights_only=True)
    last, first = (torch.load(kept[step], weights_only=True) for step in (24, 8))
    assert not differences(last, final) and differences(first, final)
    without = run("td3bc", rows, tmp_path / "without", keep_checkpoints=0)
    assert list(RunFolder(without).kept()) == [24]
    assert not differences(outcome(folder), outcome(without))


def test_kept_weights_are_loaded_and_evaluated_by_their_file(rows, tmp_path):
    folder = run("td3bc", rows, tmp_path)
    kept, obs = RunFolder(folder).kept(), np.zeros((1, 2))
    acts = {step: load_policy(path).select_action(obs, True) for step, path in kept.items()}
    assert np.array_equal(acts[24], load_policy(folder).select_action(obs, True))
    assert not np.array_equal(acts[8], acts[24])
    assert evaluate(kept[8], episodes=1).weights == str(kept[8])


def test_the_choice_is_the_highest_estimate_and_its_ranks_are_compared(rows, tmp_path, capsys):
    folder = run("td3bc", rows, tmp_path, actor_lr=1e-2)
    assert cli.main(["select", str(folder), "--by", "fqe"]) == 0
    shown = capsys.readouterr().out
    told = read_json(folder / "result/selection_fqe.json")
    found = told["candidates"]
    assert [candidate["step"] for candidate in found] == [8, 12, 20, 24]
    best = max(found, key=lambda candidate: candidate["estimate"])
    assert told["chosen"] == best["step"] and f"chosen: {best['weights']}" in shown
    curve = {int(row["timestep"]): row["eval/episode_reward"] for row in RunFolder(folder).rows()}
    assert [c["score"] for c in found] == [pytest.approx(curve[c["step"]]) for c in found]
    pairs = [(candidate["estimate"], candidate["score"]) for candidate in found]
    assert told["rank_correlation"] == pytest.approx(rank_correlation(pairs))
    assert f"rank correlation of estimate and score: {told['rank_correlation']:.2f}" in shown
    again = select(folder)
    assert [c.estimate for c in again.candidates] == [c["estimate"] for c in found]


@pytest.mark.parametrize("estimates", ["none", "model"])
def test_a_model_is_taken_from_the_run_or_fitted_once(estimates, rows, tmp_path, small_model):
    folder = run("mopo", rows, tmp_path, estimates=estimates, reward_scale=3.0)
    model = folder / "model/estimate_model/dynamics.pth"
    assert model.is_file() == (estimates == "model")
    first = select(folder, "model")
    written = model.stat().st_mtime_ns
    assert select(folder, "model") == first and model.stat().st_mtime_ns == written
    values = [candidate.estimate for candidate in first.candidates]
    if estimates == "model":  # as the run itself said, its own draws apart
        told = RunFolder(folder).estimates()[-1][1]["model"]
        assert values[-1] == pytest.approx(told, rel=0.2)
    assert all(map(math.isfinite, values)) and len(set(values)) > 1


def test_checkpoints_that_were_never_scored_are_evaluated_where_asked_for(rows, tmp_path):
    folder = run("td3bc", rows, tmp_path, eval_freq=6)
    scored = [c.score for c in select(folder, episodes=2).candidates]
    assert all(map(math.isfinite, scored))
    unscored = [c.score for c in select(folder, episodes=0).candidates]
    assert [math.isnan(score) for score in unscored] == [True, True, True, False]


def test_ranks_are_compared_as_spearman_has_it():
    assert rank_correlation([(1, 10), (2, 30), (3, 20), (9, 40)]) == pytest.approx(0.8)
    assert rank_correlation([(1, 3), (2, 2), (3, -1)]) == pytest.approx(-1.0)
    assert rank_correlation([(1, 1), (1, 2), (2, 3)]) == pytest.approx(math.sqrt(0.75))
    for few in ([(1, 1), (2, 2)], [(1, 1), (2, math.nan), (3, 2)], [(1, 1), (1, 2), (1, 3)]):
        assert math.isnan(rank_correlation(few))


def test_nothing_to_choose_from_ends_in_one_line(rows, tmp_path):
    folder = run("td3bc", rows, tmp_path, keep_checkpoints=0)
    with pytest.raises(UserError, match="has kept 1 checkpoints: train with --keep-checkpoints"):
        select(folder)
    with pytest.raises(UserError, match="is not a run's folder"):
        select(tmp_path)
    kept = run("td3bc", rows, tmp_path / "kept", fqe_steps=2)  # so few that no fit settles
    with pytest.raises(UserError, match="--episodes is -1"):
        select(kept, episodes=-1)
    with pytest.raises(UserError, match=r"no checkpoint of .* has a finite estimate by fqe"):
        select(kept)
    assert not (kept / "result/selection_fqe.json").exists()
