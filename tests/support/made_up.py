"""A study that never happened, with every number a report can show; its figures look like runs'."""

from pathlib import Path

import numpy as np

from offlinerlkit_romi.experiment.robustness import Outcome, write_outcomes
from tests.support.runs import make_run

TASKS = ("hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-medium-replay-v2")
# algorithm: (final score, steepness)
ALGORITHMS = {
    "romi": (78, 8),
    "rambo": (66, 6),
    "mopo": (58, 7),
    "iql": (54, 12),
    "td3bc": (49, 14),
}
EPOCHS = 40


def study(root, tasks=TASKS, algorithms=tuple(ALGORITHMS), seeds=3, stop=True):
    """Write the runs; with `stop`, the last of MOPO has stopped half-way."""
    for number, task in enumerate(tasks):
        for algo in algorithms:
            for seed in range(seeds):
                stopped = stop and (algo, task, seed) == ("mopo", tasks[-1], seeds - 1)
                _run(Path(root), algo, task, seed, number, EPOCHS // 2 if stopped else EPOCHS)
    return Path(root)


def _run(root, algo, task, seed, number, epochs):
    rng = np.random.default_rng([seed, number, *algo.encode()])
    final, steepness = ALGORITHMS[algo]
    time = np.arange(1, epochs + 1) / EPOCHS
    scores = (final - 9 * number + rng.normal(0, 4)) * (1 - np.exp(-steepness * time))
    scores += rng.normal(0, 3, epochs)
    folder = make_run(
        root,
        algo,
        seed,
        scores.tolist(),
        status="finished" if epochs == EPOCHS else "unfinished",
        task=task,
        columns={name: np.asarray(x).tolist() for name, x in _columns(algo, time, rng).items()},
        facts={"q_bound": 640.0 if algo in ("romi", "rambo", "mopo") else 602.0, "memory": MEMORY},
        epoch=EPOCHS,
        step_per_epoch=100,
    )
    if epochs == EPOCHS and algo in ("romi", "iql"):
        write_outcomes(
            folder / "result" / "robustness.csv", _outcomes(scores[-10:].mean(), algo, rng)
        )
    return folder


MEMORY = {"data": 4e8, "model_buffer": 2e8, "networks": 5e7, "working": 3e8, "place": "device"}


def _columns(algo, time, rng):
    n = len(time)
    wave = lambda size: np.exp(rng.normal(0, 0.15, n)) * size  # noqa: E731
    found = {"q/real": 150 * (1 - np.exp(-5 * time)) + rng.normal(0, 3, n)}
    found |= {
        "gradient/actor_optim": wave(4 - 2 * time),
        "gradient/critic1_optim": wave(30 * time + 5),
    }
    if algo in ("romi", "rambo", "mopo"):
        found["q/model"] = found["q/real"] * 0.8
        for step in range(1, 6):
            found[f"model/prediction_error_{step}"] = 0.1 * step**1.2 * (1 + 0.3 * time)
    if algo == "romi":
        found["gradient/weighting_optim"] = wave(0.02 * (1 + time))
        places = np.linspace(-1, 1, 10)
        shares = np.exp(-((places[:, None] - 0.2 * time) ** 2) / (0.02 + 0.2 * time))
        for tenth, share in enumerate(shares / shares.sum(0), 1):
            found[f"romi/weight_share_{tenth}"] = share
    return found


def _outcomes(clean, algo, rng):
    loss = 30 if algo == "romi" else 55
    conditions = [("clean", "", 0.0, "", "clean")]
    conditions += [
        (f"gaussian:{x}:std", "gaussian", x, "std", "sensor noise") for x in (0.05, 0.1, 0.2)
    ]
    conditions += [(f"mass:{x}", "mass", x, "factor", "dynamics") for x in (0.8, 1.2)]
    for name, kind, scale, unit, block in conditions:
        far = abs(scale - 1) if kind == "mass" else scale
        mean = float(clean - loss * 4 * far + rng.normal(0, 1))
        yield Outcome(
            name,
            kind,
            f"{scale:g}",
            unit,
            block,
            20,
            0,
            "score",
            mean,
            4.0,
            mean - 9,
            mean - 6,
            900.0,
        )
