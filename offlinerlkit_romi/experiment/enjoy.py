"""One episode of a trained policy as a film, rendered off-screen."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, MutableMapping
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.data import load
from offlinerlkit_romi.envs import EvalSettings, Evaluator, Task, family_of
from offlinerlkit_romi.envs.functions import Function
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.errors import UserError, reason_of
from offlinerlkit_romi.experiment.kit_runs import obs_statistics
from offlinerlkit_romi.experiment.reload import facts_of, find_run
from offlinerlkit_romi.policy_trainer.evaluation import Scorer, Scores, score_scale

MAX_FPS = 50  # more than a GIF can show, or an eye see
WRITERS: dict[str, dict[str, Any]] = {".mp4": {}, ".gif": {"loop": 0}}  # 0: for ever
GL_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
NEEDS = (
    "MuJoCo needs EGL (apt-get install libegl1 libgl1-mesa-dri) or OSMesa (libosmesa6), "
    "and MUJOCO_GL says egl or osmesa"
)


@dataclass(frozen=True)
class Film:
    """What was filmed.

    Attributes:
        video: The file.
        frames: Number of pictures.
        scores: The episode's score, or return, and length.
    """

    video: Path
    frames: int
    scores: Scores

    def table(self) -> str:
        """The result for people."""
        scores = self.scores
        played = f"{scores.scale} {scores.mean:.2f} in {scores.length_mean:.0f} steps"
        return f"{played}, {self.frames} pictures: {self.video}"


def enjoy(
    run_dir: str | Path,
    video: str | Path,
    seed: int = 0,
    *,
    algo: str | None = None,
    task: str | None = None,
    data: str | None = None,
    env: Function | None = None,
) -> Film:
    """Film the first episode that `evaluate` plays with this seed.

    Args:
        run_dir: A run's folder or a kit-style `policy.pth`, see `load_policy`.
        video: The file to write, `.mp4` or `.gif`.
        seed: Base of the episode's seed.
        algo: Algorithm, where a kit-style run does not tell.
        task: Task, likewise.
        data: What a kit-style run was trained on, see `evaluate`.
        env: Another simulator for a run on the user's own data, see `evaluate`.

    Raises:
        UserError: No such run, no simulator, nothing to draw with, or nowhere to write.
    """
    target = Path(video)
    options = writer_options(target)
    run = find_run(Path(run_dir), algo, task)
    facts = facts_of(run, env)
    scaler = None if data is None else obs_statistics(load(run.task, data))
    policy = run.load(torch.device("cpu"), scaler)
    choose_renderer(facts, os.environ)
    stage = make_bare_env(facts, seed, render_mode="rgb_array")
    try:
        with TemporaryDirectory(dir=target.parent) as folder:  # whole or absent
            partial = Path(folder) / target.name
            frames, scores = _film(policy, facts, stage, seed, partial, options)
            os.replace(partial, target)
            return Film(target, frames, scores)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        getattr(stage, "close", lambda: None)()


class _Filmed:
    """An environment whose steps are filmed, in real time; actions clipped as evaluation does."""

    def __init__(self, env: Any, writer: Any, stride: int) -> None:
        self._env, self._writer, self._stride = env, writer, stride
        self.steps = self.frames = 0

    def reset(self, seed: int | None = None) -> Any:
        result = self._env.reset(seed=seed)
        self._shoot()
        return result

    def step(self, action: Any) -> Any:
        result = self._env.step(np.clip(action, -1.0, 1.0))
        self.steps += 1
        if self.steps % self._stride == 0:
            self._shoot()
        return result

    def _shoot(self) -> None:
        self._writer.append_data(_picture(self._env))
        self.frames += 1


def _film(
    policy: Any,
    task: Task,
    stage: Any,
    seed: int,
    path: Path,
    options: dict[str, Any],
) -> tuple[int, Scores]:
    import imageio

    fps = float((getattr(stage, "metadata", None) or {}).get("render_fps") or 30)
    stride = max(1, math.ceil(fps / MAX_FPS))
    seconds = stride / fps  # per picture; ffmpeg and Pillow are told in other words
    pace: dict[str, Any] = (
        {"fps": 1 / seconds} if path.suffix.lower() == ".mp4" else {"duration": 1e3 * seconds}
    )
    with imageio.get_writer(path, **pace, **options) as writer:
        filmed = _Filmed(stage, writer, stride)
        settings = EvalSettings(1, seed, task.max_episode_steps or None)
        scores = Scorer(Evaluator(filmed, settings), score_scale(task))(policy)
    return filmed.frames, scores


def _picture(env: Any) -> np.ndarray:
    """What the environment draws, (height, width, 3) uint8.

    Raises:
        UserError: It draws nothing.
    """
    try:
        drawn = np.asarray(env.render())
    except Exception as error:  # OpenGL's, pygame's, the user's
        raise UserError(
            f"the simulator cannot draw ({reason_of(error)}): install what it asks for; {NEEDS}"
        ) from error
    if drawn.ndim != 3 or drawn.shape[2] != 3 or drawn.dtype != np.uint8:
        raise UserError(
            "the simulator's render() gives no picture (height, width, 3) of bytes: "
            "make it with render_mode='rgb_array'"
        )
    return drawn


def choose_renderer(
    task: Task, place: MutableMapping[str, str], find: Callable[[str], str | None] = find_library
) -> None:
    """Tell MuJoCo what to draw with where there may be no screen, unless the user has.

    Raises:
        UserError: MuJoCo must draw, and there is nothing to draw with.
    """
    if "MUJOCO_GL" in place or sys.platform != "linux":
        return
    backend = next((name for name, library in GL_LIBRARIES.items() if find(library)), None)
    if backend is not None:
        place["MUJOCO_GL"] = backend
    elif "mujoco" in family_of(task).packages:
        raise UserError(f"there is nothing that draws without a screen: {NEEDS}")


def writer_options(target: Path, find: Callable[[str], Any] = find_spec) -> dict[str, Any]:
    """What imageio is told for a file of that name.

    Raises:
        UserError: Another ending, or a package is missing.
    """
    suffix = target.suffix.lower()
    if suffix not in WRITERS:
        raise UserError(f"--video {target}: give a name that ends in {' or '.join(WRITERS)}")
    needed = ["imageio", *(["imageio_ffmpeg"] if suffix == ".mp4" else [])]
    missing = [name for name in needed if find(name) is None]
    if missing:
        other = "" if missing == ["imageio"] else ", or give a name that ends in .gif"
        raise UserError(
            f"--video {target} needs {missing[-1]}: pip install 'offlinerlkit-romi[video]'{other}"
        )
    return WRITERS[suffix]
