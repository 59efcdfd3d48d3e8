"""How far from the kit each policy ends, into docs/results/kit_equality.json.

OFFLINERLKIT_PATH=<checkout of OfflineRL-Kit> python -m tests.upstream.measure_equality
"""

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.system.files import write_json
from tests.upstream.checkpoints import POLICIES, act, build
from tests.upstream.harness import UPDATES, largest, run, run_ours
from tests.upstream.kit import load_kit, load_ours
from tests.upstream.scenarios import SCENARIOS

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "kit_equality.json"
COMMAND = "OFFLINERLKIT_PATH=<checkout> python -m tests.upstream.measure_equality"


def action_gap(name: str) -> float:
    """Largest difference of deterministic actions, ours loaded from the kit's state dict."""
    theirs, own = build(name, load_kit(), seed=1), build(name, load_ours(), seed=2)
    own.load_state_dict(theirs.state_dict())
    return float(np.abs(act(own) - act(theirs)).max())


def measure() -> dict[str, Any]:
    """Largest differences per scenario and, over its scenarios, per policy."""
    kit, scenarios = load_kit(), {}
    for name, scenario in SCENARIOS.items():
        gaps = largest(run_ours(scenario), run(scenario, kit))
        names = {"parameter": "parameters", "change": "changes", "step": "metrics"}
        scenarios[name] = {names[kind]: float(f"{gap:.1e}") for kind, gap in gaps.items()}
    policies = {}
    for policy in POLICIES:
        of_policy = [gaps for name, gaps in scenarios.items() if name.split("_")[0] == policy]
        worst = max(gaps["parameters"] for gaps in of_policy)
        policies[policy] = {
            "scenarios": len(of_policy),
            "parameters": worst,
            "actions_from_checkpoint": float(f"{action_gap(policy):.1e}"),
        }
    return {
        "what": f"largest differences from OfflineRL-Kit e3ce697 after {UPDATES} updates, relative "
        "to the largest entry of each array; float32, compat='kit'; actions absolute",
        "command": COMMAND,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "policies": policies,
        "scenarios": scenarios,
    }


def main() -> None:
    """Measure, write, and print the table of docs/migration.md."""
    torch.set_num_threads(1)
    result = measure()
    write_json(RESULTS, result)
    for name, row in result["policies"].items():
        sys.stdout.write(
            f"| {name} | {row['scenarios']} | {row['parameters']:.1e} | "
            f"{row['actions_from_checkpoint']:.1e} |\n"
        )


if __name__ == "__main__":
    main()
