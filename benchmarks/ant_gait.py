"""Search the ant's open-loop gait that `offlinerlkit_romi/data/ant_gait.py` turns and mirrors.

Random search, then random steps from the best, for the distance run on open floor in 5 s after the
first second, standing up at the end. `--seconds 60` is enough.
"""

import argparse
import time

import mujoco
import numpy as np

from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.envs.antmaze import AntMaze

STEP_SECONDS = 0.1


def open_floor():
    """The simulator without walls: model, state, physics steps per step."""
    ant = AntMaze(get_task("antmaze-umaze-v2")).robotics.ant_env
    for number in range(ant.model.ngeom):
        if ant.model.geom(number).name.startswith("block"):
            ant.model.geom_contype[number] = ant.model.geom_conaffinity[number] = 0
    return ant.model, ant.data, ant.frame_skip


def distance(model, data, skip, numbers, steps=60):
    """Metres from step 10 to the last, 0 if the ant has capsized. `numbers`: (25,)."""
    amplitude, phase, offset, frequency = np.split(numbers, [8, 16, 24])
    mujoco.mj_resetData(model, data)
    data.qpos[:] = model.qpos0
    for step in range(steps):
        wave = np.sin(2 * np.pi * frequency * STEP_SECONDS * step + phase)
        data.ctrl[:] = np.clip(offset + amplitude * wave, -1, 1)
        mujoco.mj_step(model, data, skip)
        if step == 10:
            start = data.qpos[:2].copy()
    upright = 1 - 2 * (data.qpos[4] ** 2 + data.qpos[5] ** 2) > 0.3
    return float(np.linalg.norm(data.qpos[:2] - start)) * upright


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, data, skip = open_floor()
    rng = np.random.default_rng(arguments.seed)
    spread = np.repeat([0.15, 0.4, 0.1, 0.1], [8, 8, 8, 1])
    best, best_distance, tried = None, -1.0, 0
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        if tried < 60:
            parts = [rng.uniform(0, 1, 8), rng.uniform(0, 2 * np.pi, 8), rng.uniform(-0.5, 0.5, 8)]
            numbers = np.concatenate([*parts, [rng.uniform(0.3, 2.0)]])
        else:
            step = rng.normal(size=25) * spread * rng.choice([0.3, 1, 2])
            numbers = best + step * (rng.random(25) < 0.4)
        found, tried = distance(model, data, skip, numbers), tried + 1
        if found > best_distance:
            best, best_distance = numbers, found
            print(f"{tried} tried: {found:.2f} m", flush=True)
    for name, values in zip(
        ("amplitude", "phase", "offset", "frequency"), np.split(best, [8, 16, 24]), strict=True
    ):
        print(name, values.round(2).tolist())


if __name__ == "__main__":
    main()
