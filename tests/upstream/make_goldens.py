"""Record what the kit computes: `OFFLINERLKIT_PATH=... python -m tests.upstream.make_goldens`.

Prints, per scenario, the largest relative differences between this package and the kit.
"""

import sys

import numpy as np

from tests.upstream.checkpoints import store_goldens
from tests.upstream.harness import Arrays, golden_path, largest, run, run_ours
from tests.upstream.kit import load_kit
from tests.upstream.scenarios import GOLDEN, SCENARIOS


def without_middle(kit: Arrays) -> Arrays:
    """The parameters, their changes, and what the last step alone reported."""
    last = max(int(name[4:].split(".")[0]) for name in kit if name.startswith("step"))
    keep = ("policy.", "dynamics.", "change.", f"step{last}.")
    return {name: value for name, value in kit.items() if name.startswith(keep)}


def main() -> None:
    """Of all scenarios, or of those named on the command line."""
    for name in sys.argv[1:] or SCENARIOS:
        scenario = SCENARIOS[name]
        kit = run(scenario, load_kit())
        if name in GOLDEN:
            np.savez_compressed(golden_path(name), **without_middle(kit))
        gaps = {kind: f"{gap:.1e}" for kind, gap in largest(run_ours(scenario), kit).items()}
        sys.stdout.write(f"{name}: {gaps}\n")
    if not sys.argv[1:]:
        store_goldens(load_kit())


if __name__ == "__main__":
    main()
