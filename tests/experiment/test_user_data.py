"""Runs on the user's own data: what is recorded, in whose units they act, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi import cli, evaluate, load_dataset, load_policy, train
from offlinerlkit_romi.dynamics.ensemble_dynamics import known_reward
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import build_policy
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.parts import prepare
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.user_data import named_task
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS

LOW, HIGH = own_functions.LOW, own_functions.HIGH
MODULE = "tests.experiment.own_functions"
BOUNDS = (LOW, HIGH)
FACTS = {"action_bounds": BOUNDS, "termination": "none"}


def settings(algo: str, root: Path, **values: Any) -> dict[str, Any]:
    tiny = {k: v for k, v in TINY_SETTINGS[algo].items() if k != "task"}
    return {**tiny, "epoch": 1, "estimates": "none", "log_root": str(root / "log"), **values}


def write_card(folder: Path, **facts: Any) -> Path:
    for i, episode in enumerate(own_functions.episodes()):
        (folder / "tank").mkdir(exist_ok=True)
        np.savez(folder / "tank" / f"{i}.npz", **episode)
    bounds = [LOW.tolist(), HIGH.tolist()]
    told = {"file": "tank", "action_bounds": bounds, "termination": f"{MODULE}:full"} | facts
    path = folder / "tank.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in told.items()))
    return path


def weights(run_dir: str) -> dict[str, torch.Tensor]:
    return torch.load(Path(run_dir) / "model" / "policy.pth", weights_only=True)


def assert_same_weights(first: str, second: str) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_arrays_a_card_and_the_command_line_train_one_policy(tmp_path: Path) -> None:
    card = write_card(tmp_path, env=f"{MODULE}:make_tank", max_episode_steps=20)
    values = settings("romi", tmp_path)
    carded = train("romi", data=str(card), **values)
    told = train(
        "romi",
        data=iter(own_functions.episodes()),
        task="tank",
        action_bounds=BOUNDS,
        termination=own_functions.full,
        env=own_functions.make_tank,
        max_episode_steps=20,
        **values,
    )
    words = [w for k, v in values.items() for w in _flag(k, v)]
    assert cli.main(["train", "romi", "--data", str(card), *words, "--algo-name", "typed"]) == 0
    typed = next((tmp_path / "log" / "tank").glob("typed&data=file/*"))
    assert_same_weights(carded.run_dir, told.run_dir)
    assert_same_weights(carded.run_dir, str(typed))
    assert Path(carded.run_dir).parent == tmp_path / "log" / "tank" / "romi&data=file"
    assert Path(told.run_dir).parent.name == "romi&data=arrays"
    data = [RunFolder(s.run_dir).manifest["data"] for s in (carded, told)]
    assert data[0]["sha256"] == data[1]["sha256"] and data[0]["task"] == data[1]["task"]
    assert data[1]["task"]["termination"] == f"{MODULE}:full"
    assert data[1]["task"]["env_id"] == f"{MODULE}:make_tank"


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    return [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]


@pytest.mark.parametrize("algo", ["romi", "iql", "td3bc"])
def test_policy_and_evaluation_act_in_the_users_units(algo: str, tmp_path: Path) -> None:
    summary = train(
        algo,
        data=own_functions.episodes(),
        env=own_functions.make_tank,
        max_episode_steps=7,
        termination="none",
        **settings(algo, tmp_path, eval_episodes=1),
    )
    seen = np.array(own_functions.Tank.taken)  # the last evaluation's
    assert seen.shape == (7, 2) and (seen >= LOW).all()
    policy = load_policy(summary.run_dir, device="cpu")
    obs = np.random.default_rng(0).normal(size=(50, 2)) * 20
    actions = policy.select_action(obs, deterministic=True)
    scaled = policy.policy.select_action(obs, deterministic=True)
    assert (np.abs(scaled) <= 1).all() and actions.dtype == scaled.dtype
    middle, half = (
        (HIGH + LOW) / 2,
        HIGH - LOW,
    )
    np.testing.assert_allclose(actions, middle + scaled * half / 2, rtol=1e-5)
    one = policy.select_action(obs[0], deterministic=True)
    np.testing.assert_allclose(one, actions[0], rtol=1e-4)
    with pytest.raises(UserError, match=r"shape \(3,\): this policy takes \(n, 2\) or \(2,\)"):
        policy.select_action(obs[0, [0, 0, 1]])
    report = evaluate(summary.run_dir, episodes=1, seed=3, device="cpu")
    first, taken = own_functions.Tank.taken[0], own_functions.Tank
    env = taken()
    state, _ = env.reset(seed=_seed(3))
    np.testing.assert_allclose(
        first, policy.select_action(state[None], deterministic=True)[0], rtol=1e-4
    )
    assert (report.scale, report.episode_length) == ("return", 7)
    assert "return" in report.table() and "score" not in report.table()


def _seed(base: int) -> int:
    return int(np.random.SeedSequence([base, 0, 0]).generate_state(1)[0]) >> 1


def test_without_reference_returns_nothing_is_called_a_score(tmp_path: Path) -> None:
    summary = train(
        "bc",
        data=own_functions.episodes(),
        env=own_functions.make_tank,
        max_episode_steps=5,
        **settings("bc", tmp_path, eval_episodes=2),
    )
    assert np.isnan([summary.score_last, summary.score_behaviour, summary.score_best]).all()
    assert np.isfinite(list(summary.returns.values())).all()
    assert set(summary.returns) == {"first", "last", "last10_mean", "best", "behaviour"}
    assert "score" not in summary.table()
    header = (
        (Path(summary.run_dir) / "record/policy_training_progress.csv").read_text().split("\n")[0]
    )
    assert "eval/episode_reward" in header and "normalized" not in header


def test_reference_returns_make_scores(tmp_path: Path) -> None:
    told = settings(
        "bc", tmp_path, eval_episodes=2, max_episode_steps=5, env=own_functions.make_tank
    )
    plain = train("bc", data=own_functions.episodes(), **told)
    scored = train("bc", data=own_functions.episodes(), reference_returns=(-50, 50), **told)
    assert scored.score_last == pytest.approx(plain.returns["last"] + 50) and not scored.returns
    assert scored.score_behaviour == pytest.approx(plain.returns["behaviour"] + 50)


def test_a_scale_that_names_its_environment_makes_no_score_of_another(tmp_path: Path) -> None:
    home, other = f"{MODULE}:make_tank", f"{MODULE}:make_short_tank"
    scale = {"low": -50, "high": 50, "env": home, "max_episode_steps": 5}
    told = settings("bc", tmp_path, env=home)
    data = own_functions.episodes()
    kept = train("bc", data=data, reference_returns=scale, max_episode_steps=5, **told)
    free = train("bc", data=data, reference_returns=(-50, 50), max_episode_steps=5, **told)
    scales = [
        evaluate(made.run_dir, episodes=1, device="cpu", env=env).scale
        for made in (kept, free)
        for env in (None, home, other)
    ]
    assert scales == ["score", "score", "return", "score", "score", "score"]
    with pytest.raises(UserError, match=f"reference_returns are of {home}, env is {other}: give"):
        train("bc", data=data, reference_returns=scale, **told | {"env": other})


@pytest.mark.parametrize("algo", ["romi", "mopo"])
def test_a_model_uses_the_known_reward_and_rule_in_the_users_units(algo: str) -> None:
    dataset = load_dataset(
        own_functions.episodes(),
        action_bounds=BOUNDS,
        termination=own_functions.full,
        reward_fn=own_functions.reward_of,
    )
    config = settle(algo, {**settings(algo, Path()), "data": "arrays", "task": "my-task"}).config
    device = torch.device("cpu")
    setting, _ = prepare(config, dataset, device, Generators(0, device))
    dynamics = build_policy(config, setting).dynamics
    dynamics.scaler.fit(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    obs, act = torch.randn(200, 2), torch.rand(200, 2) * 2 - 1
    act[:20] = 1
    next_obs, _, terminal, info = dynamics.sample_step(obs, act)
    scaler = setting.obs_scaler

    def raw(x: torch.Tensor) -> torch.Tensor:
        return x if scaler is None else torch.tensor(scaler.inverse_transform(x.numpy()))

    actions = torch.tensor(LOW + (act.numpy() + 1) / 2 * (HIGH - LOW))
    expected = own_functions.reward_of(raw(obs), actions, raw(next_obs))
    np.testing.assert_allclose(info["raw_reward"][:, 0], expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(terminal, own_functions.full(raw(obs), actions, raw(next_obs)))
    assert terminal[:20].all() and not terminal.all()
    assert (scaler is not None) == (algo == "romi")


@pytest.mark.parametrize("algo", ["romi", "rambo", "mopo", "count_morl", "combo", "mobile"])
def test_a_known_reward_is_scaled_and_shifted_like_the_datas(algo: str) -> None:
    dataset = load_dataset(
        own_functions.episodes(),
        action_bounds=BOUNDS,
        termination="none",
        reward_fn=own_functions.reward_of,
    )
    told = {"data": "arrays", "task": "my-task", "reward_scale": 10.0, "reward_bias": -3.0}
    config = settle(algo, {**settings(algo, Path()), **told}).config
    device = torch.device("cpu")
    setting, buffers = prepare(config, dataset, device, Generators(0, device))
    dynamics, rows = build_policy(config, setting).dynamics, buffers.real.tensors()
    inputs = rows["observations"], rows["actions"], rows["next_observations"]
    # rollouts and RAMBO's adversarial value both ask this function
    found = known_reward(dynamics, *inputs, torch.full_like(rows["rewards"], torch.nan))
    np.testing.assert_allclose(found, rows["rewards"], rtol=1e-3, atol=1e-3)


def test_a_model_without_a_termination_rule_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    told = {"data": own_functions.episodes(), "action_bounds": BOUNDS, "task": "tank"}
    with pytest.raises(
        UserError, match="no termination rule is known for tank, and a model cannot"
    ):
        train("mopo", **told, **settings("mopo", tmp_path))
    assert not (tmp_path / "log").exists()
    assert train("bc", **told, **settings("bc", tmp_path)).steps == 4


def test_resume_goes_on_from_the_recorded_facts(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    values = settings("rambo", tmp_path, keep_state=True, checkpoint_share=1.0)
    whole = train("rambo", data=str(card), **values | {"epoch": 2})
    first = train("rambo", data=str(card), **values, algo_name="parts")
    card.unlink()
    again = train("rambo", resume=first.run_dir, epoch=2)
    assert again.run_dir == first.run_dir
    assert_same_weights(whole.run_dir, again.run_dir)


def test_resume_refuses_other_data_and_other_facts(tmp_path: Path) -> None:
    values = settings("rambo", tmp_path, keep_state=True, task="tank")
    first = train("rambo", data=own_functions.episodes(), **FACTS, **values)
    again = values | {"resume": first.run_dir, "epoch": 2}
    cases = [
        ({"data": own_functions.episodes(seed=1), **FACTS}, "is not the data set that"),
        (
            {"data": own_functions.episodes(), **FACTS, "max_episode_steps": 9},
            "max_episode_steps of",
        ),
        (
            {"data": own_functions.episodes(), **FACTS, "termination": "hopper"},
            "--termination hopper",
        ),
        ({}, "came from Python's memory"),
    ]
    for told, words in cases:
        with pytest.raises(UserError, match=words):
            train("rambo", **told, **again)
    done = train("rambo", data=own_functions.episodes(), **FACTS, **again)
    assert (done.run_dir, done.steps) == (first.run_dir, 8)


def test_a_run_without_a_simulator_can_be_evaluated_on_one_later(
    tmp_path: Path, capsys: Any
) -> None:
    summary = train(
        "bc", data=own_functions.episodes(), action_bounds=BOUNDS, **settings("bc", tmp_path)
    )
    with pytest.raises(UserError, match="there is no simulator: give env"):
        evaluate(summary.run_dir, episodes=1, device="cpu")

    def short() -> Any:
        env = own_functions.Tank()
        env._max_episode_steps = 4  # type: ignore[attr-defined]
        return env

    report = evaluate(summary.run_dir, episodes=2, device="cpu", env=short)
    assert report.episode_length == 4 and np.isfinite(report.score)
    words = ["evaluate", summary.run_dir, "--episodes", "1", "--device", "cpu"]
    assert cli.main([*words, "--env", f"{MODULE}:make_short_tank"]) == 0
    assert "over 1 episodes of 3 steps" in capsys.readouterr().out


def test_a_function_nobody_can_import_does_not_keep_a_policy_from_acting(tmp_path: Path) -> None:
    summary = train(
        "mopo",
        data=own_functions.episodes(),
        action_bounds=BOUNDS,
        termination=lambda obs, act, next_obs: next_obs[:, 0] > 8,
        **settings("mopo", tmp_path),
    )
    policy = load_policy(summary.run_dir, device="cpu")
    assert policy.select_action(np.zeros((1, 2)), deterministic=True).shape == (1, 2)
    with pytest.raises(UserError, match=r"termination '.*<lambda>' cannot be imported"):
        policy.dynamics.step(np.zeros((1, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"task": "hopper-medium-v2", "termination": "none"}, "--termination is a fact about data"),
        ({"task": "hopper-medium-v2", "columns": {}}, "columns is a fact about data of your own"),
        ({"data": "nothing.npz"}, "no data file .*nothing.npz"),
        ({"data": "nothing.yaml"}, "cannot read the card nothing.yaml"),
        ({"data": "arrays", "task": "tank"}, "no data source 'arrays'|unknown task 'tank'"),
    ],
)
def test_facts_without_data_are_refused(told: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        train("mopo", **settings("mopo", tmp_path, data="generated") | told)
    assert not (tmp_path / "log").exists()


def test_a_known_tasks_rows_may_come_in_any_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {
        "observations_0": rng.normal(size=40),
        **{f"observations_{i}": rng.normal(size=40) for i in range(1, 11)},
        **{f"actions_{i}": rng.uniform(-1, 1, 40) for i in range(3)},
        "rewards": rng.normal(size=40),
        "terminals": np.arange(40) % 10 == 9,
    }
    names = ",".join(rows)
    table = np.column_stack([np.asarray(v, float) for v in rows.values()])
    np.savetxt(tmp_path / "log.csv", table, delimiter=",", header=names, comments="")
    values = settings("mopo", tmp_path, data=str(tmp_path / "log.csv"), transitions=40)
    values["doctor"] = False  # random numbers are no Hopper
    summary = train("mopo", **values, task="hopper-medium-v2")
    assert summary.task == "hopper-medium-v2" and np.isfinite(summary.score_behaviour)
    with pytest.raises(UserError, match=r"walker2d-medium-v2 needs .* is this the file of another"):
        train("mopo", **values, task="walker2d-medium-v2")


def test_the_tasks_name_is_told_or_taken_from_the_data(tmp_path: Path) -> None:
    card = write_card(tmp_path, name="plant-7")
    assert named_task({"data": str(card)})["task"] == "plant-7"
    assert named_task({"data": "logs/my run.npz"})["task"] == "my-run"
    assert (
        named_task({"data": "minari:mujoco/hopper/medium-v0"})["task"]
        == "minari-mujoco-hopper-medium-v0"
    )
    assert named_task({"data": "logs/my.npz", "task": "tank"})["task"] == "tank"
    assert "task" not in named_task({"data": "auto"}) and "task" not in named_task({})
    resolved = parse(
        "iql", ["--data", str(card), "--termination", "none", "--action-bounds", "-2", "3"]
    )
    config = resolved.config
    assert (config.task, config.termination, config.action_bounds) == (
        "plant-7",
        "none",
        (-2.0, 3.0),
    )
