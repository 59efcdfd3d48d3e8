"""How far the known rewards (`--reward known`) are from the recorded ones, beside learned rewards.

`recorded`: the formula on the data's own (s, a, s'), every task. `model`: a model of one member (a
rollout's row sees no more) fitted on nine tenths of the rows; on the others, its sampled rewards
and the formula of its sampled next states, both against the recorded rewards. `by_position`: the
same with (x' - x) / dt where x is observed. Rows are generated.

    python benchmarks/known_rewards.py --out docs/results/known_rewards.json
"""

import argparse
import json
import os
from pathlib import Path

import torch
from short_runs import making

from offlinerlkit_romi.data import load
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.envs import get_task, task_names
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.reward_formulas import RUNNERS, reward_formula
from offlinerlkit_romi.experiment.build import Parts, Setting
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

FITTED = ("medium-replay-v2", "v3-medium")
KEYS = ("observations", "actions", "next_observations")


def figures(found, recorded):
    """Mean, largest and signed mean error, and the root mean square in the rewards' deviations."""
    error = (found - recorded).double()
    return {
        "mean": round(float(error.abs().mean()), 6),
        "largest": round(float(error.abs().max()), 5),
        "bias": round(float(error.mean()), 6),
        "rms_over_std": round(float(error.square().mean().sqrt() / recorded.double().std()), 5),
    }


def by_position(name):
    """The reward with the true mean velocity, of tasks that observe x."""
    runner, seconds = RUNNERS[get_task(name).env_id], make_bare_env(name).dt

    def reward(obs, act, next_obs):
        speed = (next_obs[:, :1] - obs[:, :1]) / seconds
        return speed + runner.alive - runner.control * act.square().sum(-1, keepdim=True)

    return reward


def in_model(rows, formulas, epochs):
    """Errors of a fitted model's learned and known rewards on rows it has not seen."""
    device, n = torch.device("cpu"), len(rows["rewards"])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    train, test = order[n // 10 :], order[: n // 10]
    widths = rows["observations"].shape[1], rows["actions"].shape[1]
    config = ModelBasedConfig(task="halfcheetah-random-v2", n_ensemble=1, n_elites=1)
    dynamics = Parts(config, Setting(*widths, device, Generators(0, device))).dynamics()
    held_out = dynamics.train(
        {k: v[train] for k, v in rows.items()},
        max_epochs=epochs,
        max_epochs_since_update=config.max_epochs_since_update,
        logvar_loss_coef=config.logvar_loss_coef,
    )
    obs, action, _ = (rows[key][test] for key in KEYS)
    next_obs, learned, _, _ = dynamics.sample_step(obs, action)
    recorded = rows["rewards"][test]
    return {
        "held_out_error": round(float(held_out.mean()), 6),
        "learned": figures(learned, recorded),
        **{k: figures(f(obs, action, next_obs), recorded) for k, f in formulas.items()},
    }


def measure(name, transitions, epochs):
    """One task's errors."""
    data = load(name, "generated", transitions=transitions, progress=False)
    rows = {k: torch.as_tensor(v).float() for k, v in data.model_dict().items()}
    formulas = {"known": reward_formula(name)}
    if get_task(name).family == "neorl":
        formulas["by_position"] = by_position(name)
    inputs = [rows[key] for key in KEYS]
    result = {
        "std": round(float(rows["rewards"].std()), 4),
        "recorded": {k: figures(f(*inputs), rows["rewards"]) for k, f in formulas.items()},
    }
    if name.endswith(FITTED):
        result["model"] = in_model(rows, formulas, epochs)
    print(name, json.dumps(result), flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--transitions", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=150, help="of a model's fit at most")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    names = [n for family in ("d4rl-mujoco", "neorl") for n in task_names(family)]
    names = [n for n in names if not n.endswith(("-100", "-10000"))]
    tasks = {n: measure(n, arguments.transitions, arguments.epochs) for n in names}
    report = {
        "what": "errors of rewards against the recorded ones, in the rewards' own unit",
        "transitions": arguments.transitions,
        "epochs": arguments.epochs,
        **making("cpu", load_before),
        "tasks": tasks,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
