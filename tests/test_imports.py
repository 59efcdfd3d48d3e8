"""The package and its algorithms need torch and numpy alone."""

import subprocess
import sys

FORBIDDEN = (
    *("gym", "d4rl", "mujoco_py", "offlinerlkit"),
    *("gymnasium", "mujoco", "h5py", "yaml", "matplotlib", "pandas", "tqdm"),
    *("tensorboard",),
)
PROGRAM = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            raise ImportError(name + " must not be imported")

sys.meta_path.insert(0, Refuse())
for module in {modules!r}:
    importlib.import_module(module)
"""
# the front door and the algorithm packages; nothing here may reach for an optional package
MODULES = (
    "offlinerlkit_romi",
    *(f"offlinerlkit_romi.{room}" for room in ("nets", "modules", "buffer", "bilevel", "engine")),
    *(f"offlinerlkit_romi.{room}" for room in ("dynamics", "policy", "policy_trainer")),
    *(f"offlinerlkit_romi.utils.{name}" for name in ("logger", "scaler", "noise", "plotter")),
    "offlinerlkit_romi.utils.termination_fns",
)


def import_refusing(forbidden, *modules):
    program = PROGRAM.format(forbidden=forbidden, modules=modules)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_importing_the_algorithms_needs_torch_and_numpy_alone():
    done = import_refusing(FORBIDDEN, *MODULES)
    assert done.returncode == 0, done.stderr


def test_the_hook_would_notice():
    done = import_refusing(FORBIDDEN, "yaml")
    assert done.returncode != 0 and "yaml must not be imported" in done.stderr


def test_training_never_imports_the_abandoned_simulators():
    modules = ("offlinerlkit_romi.cli", "offlinerlkit_romi.experiment.run")
    done = import_refusing(("gym", "d4rl", "mujoco_py", "offlinerlkit"), *modules)
    assert done.returncode == 0, done.stderr
