"""`offlinerlkit-romi data ...`."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi.data.commands import main
from offlinerlkit_romi.data.formats import READERS
from offlinerlkit_romi.data.load import load
from offlinerlkit_romi.envs.tasks import task_names
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.policies import load_actor
from tests.support.data import hopper_rows, write_hdf5

COMMANDS = ("list", "fetch", "generate", "info", "convert", "doctor", "train-behaviour")


def test_list_names_all_tasks_and_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "--task", "hopper-random-v2", "--transitions", "30"])
    capsys.readouterr()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(task_names()) + 2
    here = [line for line in lines if "generated-" in line]
    assert len(here) == 1 and here[0].startswith("hopper-random-v2")


def test_info_prints_shapes_ranges_episodes_source_and_sha256(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_hdf5(tmp_path / "mine.hdf5", hopper_rows())
    main(["info", "--task", "hopper-medium-v2", "--data", str(path)])
    text = capsys.readouterr().out
    for words in ("12 transitions, source file", str(path), "(12, 11)", "2 complete", "sha256"):
        assert words in text
    assert "not one of D4RL's files" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0 and "--help" in capsys.readouterr().out


def test_unknown_task_is_refused_before_anything_happens() -> None:
    with pytest.raises(UserError, match="hopper-medium-v2"):
        main(["fetch", "--task", "hopper-medum-v2"])


def test_fetch_without_network_never_generates(offline: None) -> None:
    with pytest.raises(UserError, match="cannot download"):
        main(["fetch", "--task", "hopper-medium-v2"])


def test_missing_stable_baselines_names_the_extra(
    installed: Callable[..., None], tmp_path: Path
) -> None:
    installed(stable_baselines3=None)
    with pytest.raises(UserError, match=r"pip install offlinerlkit-romi\[behaviour\]"):
        main(["train-behaviour", "--env", "hopper", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="choose one of halfcheetah, hopper, walker2d"):
        main(["train-behaviour", "--env", "ant"])


@pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None, reason="needs the extra `behaviour`"
)
def test_saved_actor_equals_stable_baselines3s(tmp_path: Path) -> None:
    import torch
    from stable_baselines3 import SAC

    from offlinerlkit_romi.standins.train_behaviour import actor_weights, save_actor

    model = SAC("MlpPolicy", "Hopper-v4", seed=0, device="cpu")
    save_actor(tmp_path / "a.npz", actor_weights(model.policy.actor))
    obs = np.random.default_rng(0).standard_normal((6, 11)).astype(np.float32)
    mean, log_std = load_actor(tmp_path / "a.npz", 3).distribution(obs)
    with torch.no_grad():
        expected, expected_log_std, _ = model.policy.actor.get_action_dist_params(
            torch.as_tensor(obs)
        )
    np.testing.assert_allclose(mean, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_std, expected_log_std.numpy(), rtol=1e-4, atol=1e-5)


def test_training_saves_snapshots_that_the_generator_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from offlinerlkit_romi.standins import train_behaviour

    class Trained:
        """Looks like SAC after any training."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.policy = self.actor = self
            hidden = torch.nn.Linear(11, 256), torch.nn.Linear(256, 256)
            self.latent_pi = (hidden[0], torch.nn.ReLU(), hidden[1], torch.nn.ReLU())
            self.mu, self.log_std = torch.nn.Linear(256, 3), torch.nn.Linear(256, 3)

        def learn(self, *args: Any, **kwargs: Any) -> None:
            """Nothing left to learn."""

    monkeypatch.setattr(train_behaviour, "_sac", lambda: Trained)
    arguments = ["--steps", "3500", "--every", "2000", "--out", str(tmp_path / "out")]
    main(["train-behaviour", "--env", "hopper", *arguments])
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["hopper-0002k.npz", "hopper-3500.npz"]
    actor = load_actor(tmp_path / "out" / names[0], 3)
    action, _ = actor(np.zeros((2, 11), np.float32), np.random.default_rng(0))
    assert action.shape == (2, 3)


def torque_log(path: Path) -> Path:
    """A CSV file with torques in [-2, 2] and Gymnasium's names of flags."""
    rng = np.random.default_rng(0)
    names = ["observations_0", "observations_1", "actions_0", "rewards"]
    columns = [rng.normal(size=60), rng.normal(size=60), rng.uniform(-2, 2, 60), np.ones(60)]
    flags = [np.zeros(60), np.arange(60) % 20 == 19]
    header = ",".join([*names, "terminations", "truncations"])
    table = np.stack([*columns, *flags], axis=1)
    np.savetxt(path, table, delimiter=",", header=header, comments="")
    return path


def test_info_shows_data_of_the_users_own_in_the_users_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = torque_log(tmp_path / "log.csv")
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    for words in ("log: 57 transitions, source file", "3 complete", "--action-bounds -2 2 if so"):
        assert words in text
    actions = next(line for line in text.splitlines() if line.strip().startswith("actions"))
    low, high = float(actions.split()[-3]), float(actions.split()[-1])
    assert -2 <= low < -1.8 and 1.8 < high <= 2
    (tmp_path / "card.yaml").write_text("file: log.csv\nname: tank\naction_bounds: [-2, 2]\n")
    assert main(["info", "--data", str(tmp_path / "card.yaml"), "--termination", "none"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tank: 57") and "guessed" not in text and "termination none on" in text
    with pytest.raises(UserError, match=r"outside .-1, 1.*the data suggest --action-bounds -2 2"):
        main(["info", "--data", str(path), "--action-bounds", "-1", "1"])
    with pytest.raises(UserError, match="action-bounds is a fact about data of your own"):
        main(["info", "--task", "hopper-medium-v2", "--action-bounds", "-1", "1"])


def test_a_benchmarks_rows_are_told_by_their_keys_not_by_the_files_suffix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "hopper-medium-v2"
    arrays = hopper_rows()
    loaded = load(task, str(write_hdf5(tmp_path / "a.hdf5", arrays)))
    np.savez(tmp_path / "a.npz", **arrays)
    flags = {"terminations": arrays.pop("terminals"), "truncations": arrays.pop("timeouts")}
    np.savez(tmp_path / "b.npz", **arrays, **flags)
    write_hdf5(tmp_path / "b.hdf5", arrays | flags)
    (tmp_path / "c.yaml").write_text("file: b.npz\n")
    for name in ("a.npz", "b.npz", "b.hdf5", "c.yaml"):
        other = load(task, str(tmp_path / name))
        for key, values in loaded.as_dict().items():
            assert np.array_equal(values, other.as_dict()[key]), (name, key)
        assert other.info.episodes == loaded.info.episodes and other.info.sha256
    states = {key: np.zeros((12, 3)) for key in ("observations", "next_observations")}
    np.savez(tmp_path / "pend.npz", **(arrays | states), **flags)
    for words in (["info", "--data"], ["doctor"]):
        path = str(tmp_path / "pend.npz")
        with pytest.raises(UserError, match="is this the file of another task") as caught:
            main([*words, path, "--task", task])
        assert "NeoRL" not in str(caught.value)


def test_a_source_that_is_none_hears_of_every_kind_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    for words in (
        ["info", "--task", "hopper-medium-v2", "--data", "nothing"],
        ["info", "--task", "hopper-medium-v2", "--data", str(tmp_path / "a.txt")],
        ["convert", str(tmp_path / "a.txt"), "--to", "npz", "-o", "b.npz"],
        ["doctor", str(tmp_path / "a.txt")],
    ):
        with pytest.raises(UserError) as caught:
            main(words)
        for kind in (*READERS, "folder of episodes", "card (.yaml)", "minari:ID"):
            assert kind in str(caught.value), words
