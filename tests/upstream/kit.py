"""The same names from OfflineRL-Kit and from this package, so that one script builds both.

The kit is on no package index. It is found as an installed `offlinerlkit`, or in the folder that
the environment variable OFFLINERLKIT_PATH names (a checkout of it).
"""

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

NAMES = {
    "nets": ("MLP", "VAE"),
    "modules": (
        *("Actor", "ActorProb", "Critic", "DiagGaussian", "EnsembleCritic"),
        *("EnsembleDynamicsModel", "TanhDiagGaussian"),
    ),
    "dynamics": ("EnsembleDynamics",),
    "utils.scaler": ("StandardScaler",),
    "utils.noise": ("GaussianNoise",),
    "utils.logger": ("Logger", "make_log_dirs"),
    "utils.load_dataset": ("qlearning_dataset",),
    "utils.termination_fns": ("get_termination_fn", "obs_unnormalization"),
    "buffer": ("ReplayBuffer",),
    "policy_trainer": ("MFPolicyTrainer", "MBPolicyTrainer"),
    "policy": (
        *("BCPolicy", "SACPolicy", "TD3Policy", "TD3BCPolicy", "CQLPolicy", "IQLPolicy"),
        *("MCQPolicy", "EDACPolicy", "MOPOPolicy", "MOBILEPolicy", "RAMBOPolicy", "COMBOPolicy"),
    ),
}
REASON = "needs OfflineRL-Kit: install it, or name its checkout in OFFLINERLKIT_PATH"


class KitAbsent(Exception):
    """No OfflineRL-Kit can be imported; the message says why."""


@functools.cache
def load_kit() -> SimpleNamespace:
    """The kit's names.

    Raises:
        KitAbsent: it is not there, or does not import.
    """
    folder = os.environ.get("OFFLINERLKIT_PATH")
    stand_ins = {} if importlib.util.find_spec("gym") else _gym_from_gymnasium()
    sys.modules.update(stand_ins)
    try:
        with mock.patch.object(sys, "path", [folder, *sys.path] if folder else sys.path):
            return _load("offlinerlkit", strict=True)
    except ImportError as error:
        raise KitAbsent(f"{REASON} ({error})") from error
    finally:
        for name in stand_ins:
            del sys.modules[name]


def kit_checkout() -> Path:
    """The checkout's folder; its run scripts are in no installed package.

    Raises:
        KitAbsent: none is named.
    """
    folder = os.environ.get("OFFLINERLKIT_PATH", "")
    if not folder or not os.path.isdir(
        os.path.join(folder, "offlinerlkit")
    ):  # ours has scripts too
        raise KitAbsent("needs a checkout of OfflineRL-Kit: name it in OFFLINERLKIT_PATH")
    return Path(folder).resolve()


def load_ours() -> SimpleNamespace:
    """This package's names; a name it does not have yet is left out."""
    return _load("offlinerlkit_romi", strict=False)


def _load(package: str, strict: bool) -> SimpleNamespace:
    found = {}
    for module_name, names in NAMES.items():
        module = importlib.import_module(f"{package}.{module_name}")
        for name in names:
            if strict or hasattr(module, name):
                found[name] = getattr(module, name)
    return SimpleNamespace(package=package, **found)


def _gym_from_gymnasium() -> dict[str, ModuleType]:
    """Gymnasium under the names of the abandoned `gym` that the kit imports at every door."""
    import gymnasium

    environment = ModuleType("gym.envs.mujoco.mujoco_env")
    environment.MujocoEnv = type("MujocoEnv", (), {})
    mujoco = ModuleType("gym.envs.mujoco")
    mujoco.mujoco_env = environment
    return {
        "gym": gymnasium,
        "gym.envs": gymnasium.envs,
        "gym.envs.mujoco": mujoco,
        "gym.envs.mujoco.mujoco_env": environment,
    }
