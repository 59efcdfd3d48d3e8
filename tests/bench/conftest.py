"""A bench so small that a test can wait for it, and a checkout made of this package's names."""

import pytest

from offlinerlkit_romi.bench.command import parser, run
from tests.upstream.kit import NAMES as KIT

TINY_NETS = {
    "hidden_dims": (4,),
    "dynamics_hidden_dims": (4, 4),
    "dynamics_weight_decay": (0.0, 0.0, 0.0),
    "weight_hidden_dims": (4,),
    "vae_hidden_dim": 4,
    "batch_size": 8,
    "adv_batch_size": 8,
    "dynamics_batch_size": 8,
    "num_critics": 2,
    "adv_train_steps": 8,
}
TINY = {
    "repeats": 1,
    "steps": 2,
    "rows": 100,
    "rollout_rows": 8,
    "rollout_length": 2,
    "load_rows": 50,
    "episodes": 2,
    "episode_steps": 3,
    "epoch_share": 0.001,
    "overrides": TINY_NETS,
}
REEXPORTS = {
    "nets": "from offlinerlkit_romi.nets import *",
    "modules": "from offlinerlkit_romi.modules import *",
    "buffer": "from offlinerlkit_romi.buffer import ReplayBuffer",
    "dynamics": """
import torch
from offlinerlkit_romi import dynamics
from offlinerlkit_romi.dynamics.losses import supervised_loss

class EnsembleDynamics(dynamics.EnsembleDynamics):
    def learn(self, inputs, targets, batch_size, coef):
        inputs, targets = map(torch.as_tensor, (inputs, targets))
        for x, y in zip(inputs.split(batch_size, 1), targets.split(batch_size, 1)):
            supervised_loss(self.model, x, y, coef).backward()
""",
    "policy/__init__": "import gym, d4rl\nfrom gym.envs.mujoco import mujoco_env\n"
    "space: gym.spaces.Space\nenv: mujoco_env.MujocoEnv\n"
    f"from offlinerlkit_romi.policy import {', '.join(KIT['policy'])}",
    "utils/__init__": "",
    "utils/scaler": "from offlinerlkit_romi.utils.scaler import StandardScaler",
    "utils/noise": "",
    "utils/load_dataset": "from offlinerlkit_romi.utils.load_dataset import qlearning_dataset",
    "utils/termination_fns": "from offlinerlkit_romi.utils.termination_fns import *",
}


def make_checkout(folder, **changes):
    """The kit's files, each a few names of this package."""
    for name, text in (REEXPORTS | changes).items():
        file = folder / "offlinerlkit" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    (folder / "offlinerlkit" / "__init__.py").touch()
    return folder


@pytest.fixture
def tiny_bench():
    """Runs `bench` on networks and data of a few rows."""

    def bench(*words, **sizes):
        return run(parser().parse_args(words), words, **TINY | sizes)

    return bench
