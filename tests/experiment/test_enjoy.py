"""A film of an episode: what it shows, and what stands in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import offlinerlkit_romi as romi
from offlinerlkit_romi import cli
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.enjoy import choose_renderer, enjoy, writer_options
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS

imageio = pytest.importorskip("imageio")
MODULE = "tests.experiment.own_functions"


def run_on(env: str, data: Any, root: Path, **facts: Any) -> Path:
    tiny = {k: v for k, v in TINY_SETTINGS["td3bc"].items() if k != "task"}
    settings = tiny | {"epoch": 1, "estimates": "none", "log_root": str(root / "log")}
    made = romi.train("td3bc", data=data, task="mine", env=env, **facts, **settings)
    return Path(made.run_dir)


@pytest.fixture(scope="module")
def tank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_on(
        f"{MODULE}:make_drawn_tank",
        own_functions.episodes(),
        tmp_path_factory.mktemp("tank"),
        action_bounds=(own_functions.LOW, own_functions.HIGH),
        max_episode_steps=21,
    )


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_the_film_shows_in_real_time_the_episode_that_evaluate_plays(
    suffix: str, tank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    target = tmp_path / f"film{suffix}"
    assert cli.main(["enjoy", str(tank), "--video", str(target), "--seed", "3"]) == 0
    report = romi.evaluate(tank, episodes=1, seed=3, device="cpu")
    shown = capsys.readouterr().out
    assert f"return {report.score:.2f} in 21 steps, 11 pictures" in shown
    with imageio.get_reader(target) as film:
        frames = [np.asarray(frame)[..., :3] for frame in film]
        told = film.get_meta_data()
    # 100 steps a second, a picture of every second one and of the start
    assert len(frames) == 11 and all(frame.shape == (32, 48, 3) for frame in frames)
    assert told["fps"] == 50 if suffix == ".mp4" else told["duration"] == 20
    assert len({int(frame.mean()) for frame in frames}) > 1
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


@pytest.mark.slow
def test_mujoco_is_filmed_without_a_screen(tmp_path: Path) -> None:
    try:
        choose_renderer(get_task("halfcheetah-random-v2"), {})
    except UserError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    data = {
        "observations": rng.normal(size=(41, 17)),
        "actions": rng.uniform(-1, 1, (40, 6)),
        "rewards": rng.normal(size=40),
        "terminals": np.zeros(40, bool),
        "episode": np.zeros(41),
    }
    data = {name: value[:40] for name, value in data.items()}
    run = run_on("HalfCheetah-v4", data, tmp_path, max_episode_steps=5)
    film = enjoy(run, tmp_path / "cheetah.gif")
    with imageio.get_reader(film.video) as pictures:
        frames = [np.asarray(frame, int)[..., :3] for frame in pictures]
    assert len(frames) == film.frames == 6
    assert frames[0].shape == (480, 480, 3) and frames[0].std() > 10
    assert np.abs(frames[0] - frames[-1]).max() > 50  # it moves


def test_without_egl_and_osmesa_one_line_says_what_to_install() -> None:
    def nothing(name: str) -> None:
        return None

    place: dict[str, str] = {}
    with pytest.raises(UserError, match=r"apt-get install libegl1.*libosmesa6") as told:
        choose_renderer(get_task("hopper-medium-v2"), place, nothing)
    assert "\n" not in str(told.value) and not place


def test_the_users_renderer_is_kept_and_egl_comes_before_osmesa() -> None:
    task, place = get_task("hopper-medium-v2"), {"MUJOCO_GL": "glfw"}
    choose_renderer(task, place, lambda name: name)
    assert place == {"MUJOCO_GL": "glfw"}
    for known, chosen in ((("EGL", "OSMesa"), "egl"), (("OSMesa",), "osmesa")):
        empty: dict[str, str] = {}
        choose_renderer(task, empty, lambda name, known=known: name if name in known else None)
        assert empty == {"MUJOCO_GL": chosen}


def test_mp4_needs_a_package_that_gif_does_not() -> None:
    def without_ffmpeg(name: str) -> Any:
        return None if name == "imageio_ffmpeg" else name

    assert writer_options(Path("a.gif"), without_ffmpeg) == {"loop": 0}
    with pytest.raises(UserError, match=r"romi\[video\]', or give a name that ends in \.gif"):
        writer_options(Path("a.mp4"), without_ffmpeg)


def refused(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(list(map(str, words))) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "Traceback" not in shown
    return shown


def test_what_cannot_be_filmed_is_refused_in_a_line(
    tank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = ["enjoy", tank, "--video"]
    assert "ends in .mp4 or .gif" in refused([*film, tmp_path / "a.avi"], capsys)
    assert "ends in .mp4 or .gif" in refused([*film, tmp_path], capsys)
    assert "cannot write" in refused([*film, tmp_path / "no" / "a.gif"], capsys)
    assert "--video" in refused(["enjoy", tank], capsys)
    assert "not a run's folder" in refused(["enjoy", tmp_path, "--video", "a.gif"], capsys)
    assert "seed" in refused([*film, tmp_path / "a.gif", "--seed", -1], capsys)
    blind = refused([*film, tmp_path / "a.gif", "--env", f"{MODULE}:make_tank"], capsys)
    assert "the simulator cannot draw (AttributeError" in blind
    assert not list(tmp_path.iterdir())


def test_a_diverged_policy_is_refused_and_leaves_no_film(
    tank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tank / "model" / "policy.pth"
    whole, state = weights.read_bytes(), torch.load(weights)
    state["actor.last.bias"][0] = torch.nan
    torch.save(state, weights)
    try:
        assert "NaN" in refused(["enjoy", tank, "--video", tmp_path / "a.gif"], capsys)
    finally:
        weights.write_bytes(whole)
    assert not list(tmp_path.iterdir())
