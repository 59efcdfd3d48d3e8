"""Minari's data sets: read whole, marked as what they are, and trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi import evaluate, load_dataset, load_policy, train
from offlinerlkit_romi.errors import UserError
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.stopping import before

pytest.importorskip("minari", reason="needs the extra `minari`")
pytest.importorskip("gymnasium", reason="needs gymnasium")
# Minari remarks on what these tests leave out on purpose
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

STEP = ("actions", "rewards", "terminations", "truncations")
SWING = "mine/swing/random-v0"


def make(
    name: str, env_id: str, episodes: int = 4, steps: int = 30, with_env: bool = True, **facts: Any
) -> list[Any]:
    """A local data set of random actions; the first episode ends by itself where `env_id` does."""
    import gymnasium
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env, buffers = gymnasium.make(env_id), []
    env.action_space.seed(0)
    for i in range(episodes):
        state, _ = env.reset(seed=i)
        rows: dict[str, list[Any]] = {
            "observations": [state],
            **{k: [] for k in STEP},
        }
        for step in range(steps):
            action = env.action_space.sample()
            state, reward, ended, cut, _ = env.step(action)
            rows["observations"].append(state)
            outcome = (action, float(reward), bool(ended), bool(cut or step == steps - 1))
            for key, value in zip(
                ("actions", "rewards", "terminations", "truncations"), outcome, strict=True
            ):
                rows[key].append(value)
            if ended:
                break
        rows["observations"], rows["actions"] = (
            np.array(rows["observations"]),
            np.array(rows["actions"]),
        )
        buffers.append(EpisodeBuffer(**rows))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    minari.create_dataset_from_buffers(
        name,
        buffers,
        env=env_id if with_env else None,
        **({} if with_env else spaces),
        algorithm_name="random",
        author="nobody",
        author_email="nobody@example.com",
        code_permalink="https://example.com",
        description="random actions",
        **facts,
    )
    return buffers


def tiny(algo: str, tmp_path: Path, **values: Any) -> dict[str, Any]:
    settings = {k: v for k, v in TINY_SETTINGS[algo].items() if k != "task"}
    return {**settings, "epoch": 1, "log_root": str(tmp_path / "log"), **values}


def test_every_step_is_a_transition_with_its_true_next_observation(tmp_path: Path) -> None:
    buffers = make(SWING, "Pendulum-v1")
    dataset = load_dataset(f"minari:{SWING}")
    observations = np.concatenate([b.observations[:-1] for b in buffers])
    following = np.concatenate([b.observations[1:] for b in buffers])
    actions = np.concatenate([b.actions for b in buffers])
    np.testing.assert_array_equal(dataset.observations, np.float32(observations))
    np.testing.assert_array_equal(dataset.next_observations, np.float32(following))
    np.testing.assert_allclose(dataset.actions * 2, actions, atol=1e-6)  # torque in [-2, 2]
    np.testing.assert_array_equal(
        dataset.rewards[:, 0], np.float32(np.concatenate([b.rewards for b in buffers]))
    )
    assert not dataset.terminals.any() and dataset.model_rows is None and len(dataset) == 120
    assert (dataset.info.source, dataset.info.episodes) == ("minari", 4)
    assert dataset.info.behaviour_return == pytest.approx(
        np.mean([sum(b.rewards) for b in buffers])
    )
    task = dataset.task
    assert (task.name, task.family) == ("minari-mine-swing-random-v0", "minari")
    assert (task.env_id, task.termination) == (f"minari:{SWING}", "pendulum")
    assert (task.action_low, task.action_high, task.max_episode_steps) == ((-2,), (2,), 200)
    assert not task.has_scores
    assert any("not D4RL's" in note for note in dataset.info.notes)
    assert dataset.info.env_version.startswith("Pendulum-v1")


@pytest.mark.slow
def test_terminals_and_reference_returns_are_the_data_sets(tmp_path: Path) -> None:
    make("mine/pole-v0", "InvertedPendulum-v5", steps=60, ref_min_score=-5.0, ref_max_score=45.0)
    dataset = load_dataset("minari:mine/pole-v0")
    assert dataset.terminals.sum() == 4 and dataset.model_rows is None
    task = dataset.task
    assert (task.ref_min, task.ref_max) == (-5, 45) and task.has_scores
    # the pair holds where it was earned, and is no scale of another simulator's
    assert (task.ref_env, task.max_episode_steps) == ("InvertedPendulum-v5", 1000)
    assert dataset.card.reference_returns.max_episode_steps == 1000
    assert load_dataset("minari:mine/pole-v0", env="InvertedPendulum-v5").task.has_scores
    assert not load_dataset("minari:mine/pole-v0", env="InvertedPendulum-v4").task.has_scores
    assert not load_dataset("minari:mine/pole-v0", max_episode_steps=7).task.has_scores
    assert task.termination == "" and (task.action_low, task.action_high) == ((-3,), (3,))
    with pytest.raises(UserError, match="no termination rule is known for minari-mine-pole-v0"):
        train("mopo", data="minari:mine/pole-v0", **tiny("mopo", tmp_path))
    summary = train("iql", data="minari:mine/pole-v0", **tiny("iql", tmp_path, eval_episodes=1))
    assert summary.score_last == pytest.approx((_return(summary) + 5) / 50 * 100)
    assert not summary.returns


def _return(summary: Any) -> float:
    """The pole pays 1 per step but the last."""
    csv = (Path(summary.run_dir) / "record/policy_training_progress.csv").read_text().splitlines()
    row = dict(zip(csv[0].split(","), csv[1].split(","), strict=True))
    return float(row["eval/episode_length"]) - 1


@pytest.mark.parametrize("algo", ["romi", "rambo", "iql"])
def test_a_run_on_minari_is_marked_and_evaluated_in_its_own_environment(
    algo: str, tmp_path: Path
) -> None:
    make(SWING, "Pendulum-v1")
    summary = train(algo, data=f"minari:{SWING}", **tiny(algo, tmp_path, eval_episodes=1))
    folder = Path(summary.run_dir)
    assert folder.parent == tmp_path / "log" / "minari-mine-swing-random-v0" / f"{algo}&data=minari"
    assert summary.data_source == "minari" and "Minari data (not D4RL)" in summary.table()
    assert np.isnan(summary.score_last) and -2000 < summary.returns["last"] < 0
    data = json.loads((folder / "record/manifest.json").read_text())["data"]
    assert (data["source"], data["path"]) == ("minari", f"minari:{SWING}")
    policy = load_policy(folder, device="cpu")
    actions = policy.select_action(
        np.random.default_rng(0).normal(size=(20, 3)), deterministic=True
    )
    assert actions.shape == (20, 1) and np.abs(actions).max() <= 2
    assert evaluate(folder, episodes=1, device="cpu").episode_length == 200


def test_without_a_stored_environment_estimates_take_the_place_of_scores(tmp_path: Path) -> None:
    make("mine/bare-v0", "Pendulum-v1", with_env=False)
    summary = train("td3bc", data="minari:mine/bare-v0", **tiny("td3bc", tmp_path))
    assert set(summary.estimates) >= {"fqe_settled", "behaviour"}


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("CartPole-v1", "the space of actions is Discrete: discrete actions are not supported"),
        ("Blackjack-v1", "the space of observations is Tuple: only boxes of vectors"),
    ],
)
def test_other_spaces_are_refused_in_one_line(env_id: str, words: str, tmp_path: Path) -> None:
    import gymnasium
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env = gymnasium.make(env_id)
    states, actions = [], []
    states.append(env.reset(seed=0)[0])
    actions.append(env.action_space.sample())
    states.append(env.step(actions[0])[0])
    stacked: Any = (
        tuple(map(np.array, zip(*states, strict=True)))
        if isinstance(states[0], tuple)
        else np.array(states)
    )
    episode = EpisodeBuffer(
        observations=stacked,
        actions=np.array(actions),
        rewards=[0.0],
        terminations=[False],
        truncations=[True],
    )
    minari.create_dataset_from_buffers("mine/other-v0", [episode], env=env_id)
    with pytest.raises(UserError) as caught:
        load_dataset("minari:mine/other-v0")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there_is_said_in_one_line(installed: Callable[..., None]) -> None:
    import minari

    def refuse(name: str, download: bool = False) -> Any:
        if download:
            raise ConnectionError("no route to host")
        raise FileNotFoundError(name)

    told = pytest.raises(
        UserError, match=r"not on this machine and cannot be downloaded .*no route"
    )
    with before(minari, "load_dataset", refuse), told:
        load_dataset("minari:mujoco/hopper/medium-v0")
    installed(minari=None)
    with pytest.raises(
        UserError, match=r"needs the package minari: pip install 'offlinerlkit-romi\[minari\]'"
    ):
        load_dataset("minari:mujoco/hopper/medium-v0")
