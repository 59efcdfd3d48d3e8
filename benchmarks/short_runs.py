"""What the benchmarks that train share: runs of some seconds, and how their reports were made."""

import os
import platform
import sys
from pathlib import Path

import torch

from offlinerlkit_romi.system.machine import usable_cores

TRANSITIONS = 20_000
SMALL = {
    "romi": {
        "rollout_batch_size": 2000,
        "adv_train_steps": 20,
        "dynamics_update_freq": 500,
        "dynamics_max_epochs": 2,
    },
    "iql": {},
}


def command() -> str:
    """The command line, without the folders in which things lie on this machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def making(device: str, load_before: float) -> dict[str, object]:
    """How and where a report was made; `load_before` is `os.getloadavg()[0]` at the start."""
    return {
        "command": command(),
        "device": device,
        "cores": usable_cores(),
        "load_before_and_after": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "torch": torch.__version__,
        "platform": platform.platform(),
    }
