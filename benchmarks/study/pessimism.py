"""Can weights make a model pessimistic? V at the model's next states less V at the true ones.

One policy's values are held fixed. Ensembles of several widths are fitted to the same states and
actions, whose next states come from the true simulator under noisy actions; then each goes on
training by uniform weights, by ROMI's exact ones and by the released ones.

    python benchmarks/study/pessimism.py RUN --out pessimism.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

import offlinerlkit_romi
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.data import load
from offlinerlkit_romi.dynamics import MujocoOracleDynamics
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.resolve import settle

TASK, ROWS, HELD_OUT = "halfcheetah-random-v2", 50_000, 5_000
ARMS = {
    "uniform": {"weight_range": (1.0, 1.000001)},
    "exact": {"variant": "exact"},
    "release": {"variant": "release", "weight_input": "sa"},
}
CPU = torch.device("cpu")


def noisy_rows(noise: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of the generated data whose next states the simulator makes under noisy actions."""
    data = load(TASK, "generated", transitions=ROWS, seed=0, progress=False)
    obs, action = data.observations[:ROWS], data.actions[:ROWS]
    simulator = MujocoOracleDynamics(make_bare_env(TASK))
    disturbed = action + noise * np.random.default_rng(seed).standard_normal(action.shape)
    next_obs, reward, *_ = simulator.step(obs, disturbed)
    rows = (obs, action, next_obs, reward, np.zeros((ROWS, 1)))
    names = ("observations", "actions", "next_observations", "rewards", "terminals")
    return {k: v.astype(np.float32) for k, v in zip(names, rows, strict=True)}


def make_policy(trained, width: int, arm: str, xi: float, updates: int, seed: int):
    """A ROMI policy with the trained one's values and a model of its own."""
    values = {"task": TASK, "preset": "quick", "xi": xi, "adv_train_steps": updates, "seed": seed}
    sizes = {"dynamics_hidden_dims": (width,) * 4, "dynamics_batch_size": 1024}
    config = settle("romi", values | sizes | ARMS[arm]).config
    setting = Setting(17, 6, CPU, Generators(seed, CPU), trained.scaler)
    policy = build_policy(config, setting)
    weights = {k: v for k, v in trained.state_dict().items() if "weighting_net" not in k}
    policy.load_state_dict(weights, strict=False)
    return policy


@torch.no_grad()
def look(policy, held_out: dict[str, torch.Tensor]) -> dict[str, float]:
    """Mean V at the model's and at the true next states, and the model's one-step error."""
    obs, action, true = (held_out[k] for k in ("observations", "actions", "next_observations"))
    made = policy.dynamics.sample_step(obs, action)[0]
    error = (policy.dynamics.expected_next(obs, action) - true).square().mean().sqrt()
    values = {"model": policy.value(made).mean(), "true": policy.value(true).mean()}
    return {k: float(v) for k, v in values.items()} | {
        "gap": float(values["model"] - values["true"]),
        "error": float(error),
    }


def study(trained, width: int, noise: float, xi: float, updates: int, seed: int) -> list[dict]:
    """All arms from one fit."""
    rows = noisy_rows(noise, seed)
    for name in ("observations", "next_observations"):
        rows[name] = trained.scaler.transform(rows[name]).astype(np.float32)
    held_out = {k: torch.as_tensor(v[-HELD_OUT:]) for k, v in rows.items()}
    kept = {k: v[:-HELD_OUT] for k, v in rows.items()}
    buffer = ReplayBuffer(
        ROWS - HELD_OUT,
        (17,),
        np.float32,
        6,
        np.float32,
        "cpu",
        torch.Generator().manual_seed(seed),
    )
    buffer.load_dataset(kept)
    fitted, found = None, []
    for arm in ARMS:
        start, policy = time.perf_counter(), make_policy(trained, width, arm, xi, updates, seed)
        if fitted is None:
            policy.dynamics.train(
                {k: torch.as_tensor(v) for k, v in kept.items()}, max_epochs=10, batch_size=1024
            )
            weights = {k: v.clone() for k, v in policy.dynamics.model.state_dict().items()}
            fitted = weights, policy.dynamics.scaler
        policy.dynamics.model.load_state_dict(fitted[0])
        policy.dynamics.scaler = fitted[1]
        before = look(policy, held_out)
        metrics = policy.update_dynamics(buffer)
        row = {"width": width, "noise": noise, "xi": xi, "arm": arm, "updates": updates}
        row |= {"seed": seed, "before": before, "after": look(policy, held_out)}
        row |= {
            "weight_mean": metrics.get("romi/weight_mean"),
            "seconds": time.perf_counter() - start,
        }
        found.append(row)
        print(json.dumps(row), flush=True)
    return found


def main() -> None:
    """Every width under every noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of a ROMI run on halfcheetah-random, whose V is used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 200])
    parser.add_argument("--noises", type=float, nargs="+", default=[0.0, 0.1, 0.3])
    parser.add_argument("--xis", type=float, nargs="+", default=[1.0])
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    told = parser.parse_args()
    torch.set_num_threads(1)
    trained = offlinerlkit_romi.load_policy(told.run)
    rows = [
        row
        for seed in told.seeds
        for xi in told.xis
        for noise in told.noises
        for width in told.widths
        for row in study(trained, width, noise, xi, told.updates, seed)
    ]
    words = [word for word in sys.argv[2:] if "/" not in word]
    report = {"command": " ".join(["python benchmarks/study/pessimism.py RUN", *words])}
    report |= {"task": TASK, "rows": ROWS, "data": "generated", "torch": torch.__version__}
    told.out.write_text(json.dumps(report | {"found": rows}, indent=1))


if __name__ == "__main__":
    main()
