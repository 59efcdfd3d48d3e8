"""What a library's policy saves, and how it acts; the kit's own stored for machines without it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.upstream.harness import GOLDENS
from tests.upstream.scenarios import SCENARIOS
from tests.upstream.tape import Tape, fill

POLICIES = (
    *("sac", "cql", "iql", "edac", "mopo", "combo", "rambo"),
    *("td3", "td3bc", "bc", "mcq", "mobile"),
)
# those with a run script in the kit, and what its networks are given there
SCENARIO_OF = {"mcq": "mcq_dropout"}
KIT_RUNS = GOLDENS / "kit_runs"
TASK, OBS_DIM, ACTION_DIM = "hopper-medium-v2", 11, 3
OBS = Tape(11).normal(5, OBS_DIM).numpy()


def build(name: str, library: SimpleNamespace, seed: int) -> Any:
    """A policy with weights of the seed, for hopper."""
    policy, _ = SCENARIOS[SCENARIO_OF.get(name, name)](library, {}, sizes=(OBS_DIM, ACTION_DIM))
    fill(policy, seed)
    if hasattr(policy, "dynamics"):
        fill(policy.dynamics.model, seed)
    policy.eval()
    return policy


def save(policy: Any, folder: Path) -> None:
    """As the trainers of both libraries do at the end."""
    torch.save(policy.state_dict(), folder / "policy.pth")
    if hasattr(policy, "dynamics"):
        policy.dynamics.save(str(folder))


def act(policy: Any) -> np.ndarray:
    return policy.select_action(OBS, deterministic=True)


@torch.no_grad()
def predict(policy: Any) -> tuple[np.ndarray, ...]:
    """The model's means and log-variances (E, n, D), and its elites."""
    dynamics = policy.dynamics
    action = np.linspace(-1, 1, len(OBS) * ACTION_DIM, dtype=np.float32).reshape(len(OBS), -1)
    inputs = dynamics.scaler.transform(np.concatenate([OBS, action], axis=1))
    mean, logvar = dynamics.model(torch.as_tensor(inputs, dtype=torch.float32))
    return mean.numpy(), logvar.numpy(), dynamics.model.elites.numpy()


def store_goldens(kit: SimpleNamespace) -> None:
    """Write a run folder of the kit's per policy, and how the policies in them act."""
    actions = {}
    for name in POLICIES:
        folder = KIT_RUNS / name / "model"
        folder.mkdir(parents=True, exist_ok=True)
        policy = build(name, kit, seed=3)
        save(policy, folder)
        actions[name] = act(policy)
    np.savez(KIT_RUNS / "actions.npz", observations=OBS, **actions)
