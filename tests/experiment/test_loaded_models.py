"""`--load-dynamics-path` takes a model of the run's own observations and rewards, no other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offlinerlkit_romi.dynamics.space import FILE, ModelSpace, read_space
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.rewards import model_reward_map
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TASK, TINY_SETTINGS, make_dataset

WITH_MODEL = [name for name, kind in ALGORITHMS.items() if issubclass(kind, ModelBasedConfig)]
FITTED = {
    **{"dynamics_hidden_dims": (32,), "dynamics_max_epochs": 40, "dynamics_lr": 0.003},
    **{"epoch": 1, "step_per_epoch": 1, "error_segments": 0},
}


@pytest.fixture
def drifting(tiny_data):
    """States around 20 that move with the actions: little, and as a model can learn."""
    data = make_dataset()
    moved = 0.5 * np.tile(data.actions, 3)[:, :17]
    obs = data.observations + 20
    dataset = replace(data, observations=obs, next_observations=obs + moved)
    tiny_data.dataset = dataset
    return dataset


def run_tiny(root, algo, **values) -> Path:
    settings = TINY_SETTINGS[algo] | FITTED | {"log_root": str(root)} | values
    return Path(train(algo, **settings).run_dir)


def refusal(root, algo, folder: Path, **values) -> str:
    with pytest.raises(UserError) as caught:
        run_tiny(root, algo, load_dynamics_path=str(folder), **values)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def said(folder: Path) -> str:
    return (folder / "record" / "consoleout_backup.txt").read_text()


@pytest.mark.parametrize(
    ("algo", "values"), [*((algo, {}) for algo in WITH_MODEL), ("mobile", {"norm_reward": True})]
)
def test_the_recorded_reward_map_is_what_makes_the_rewards(algo, values) -> None:
    settings = {"task": TASK, "reward_scale": 10.0, "reward_bias": -3.0} | values
    config, data = settle(algo, settings).config, make_dataset()
    scale, bias = model_reward_map(config, data)
    np.testing.assert_allclose(
        data.rewards * scale + bias, config.learned_rewards(data), rtol=1e-4, atol=1e-5
    )


def test_a_run_says_what_its_model_is_of(tiny_data, tmp_path) -> None:
    raw = run_tiny(tmp_path, "mopo", reward_scale=2.0, reward_bias=1.0)
    assert read_space(raw / "model") == ModelSpace(None, None, 2.0, 1.0)
    space, data = read_space(run_tiny(tmp_path, "romi") / "model"), make_dataset()
    np.testing.assert_allclose(space.obs_mean, data.observations.mean(0), rtol=1e-4)
    np.testing.assert_allclose(space.obs_std, data.observations.std(0) + 1e-3, rtol=1e-4)
    assert (space.reward_scale, space.reward_bias) == (1.0, 0.0)


def test_a_model_of_other_observations_or_rewards_is_refused(drifting, tmp_path) -> None:
    raw = run_tiny(tmp_path, "mopo") / "model"
    assert "of raw observations, here are standardised" in refusal(tmp_path, "romi", raw)
    assert "its rewards are 1 r +0, here they are 2 r +0" in refusal(
        tmp_path, "mopo", raw, reward_scale=2.0
    )
    assert "its rewards are 1 r +0, here they are" in refusal(
        tmp_path, "mobile", raw, norm_reward=True
    )
    scaled = run_tiny(tmp_path, "romi") / "model"
    assert "of standardised observations, here are raw" in refusal(tmp_path, "mopo", scaled)


def test_a_model_of_this_space_is_taken_and_its_error_told(drifting, tmp_path) -> None:
    raw = run_tiny(tmp_path, "mopo") / "model"
    taken = run_tiny(tmp_path, "mobile", load_dynamics_path=str(raw))
    assert f"dynamics model read from {raw}: one-step error 0." in said(taken)
    assert read_space(taken / "model") == read_space(raw)


def test_a_model_that_does_not_say_is_taken_where_it_predicts_better_than_no_change(
    drifting, tmp_path
) -> None:
    raw = run_tiny(tmp_path, "mopo") / "model"
    (raw / FILE).unlink()  # as the kit leaves it
    taken = run_tiny(tmp_path, "mobile", load_dynamics_path=str(raw))
    assert f"dynamics model read from {raw}" in said(taken)
    message = refusal(tmp_path, "romi", raw)
    assert "does not say which observations and rewards it is of" in message
    assert "for predicting no change" in message


def test_an_unfit_model_is_found_before_behaviour_is_cloned(drifting, tmp_path, capsys) -> None:
    raw = run_tiny(tmp_path, "mopo") / "model"
    capsys.readouterr()
    refusal(tmp_path, "rambo", raw, bc_epoch=1)
    assert "behaviour cloning" not in capsys.readouterr().out
