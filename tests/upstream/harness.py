"""One scenario, built and run in the kit and in this package, and how far they end apart.

A scenario is a function `(library, compat) -> (policy, steps)`: it builds a policy from the names
of `library`, passes `**compat` (empty for the kit) to the policy's constructor, and returns an
iterator whose items are dicts of numbers worth comparing (metrics, rollouts). `run` gives both the
same weights and the same random numbers; the scenario takes its batches from `tape.batches`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.upstream.kit import KitAbsent, load_kit, load_ours
from tests.upstream.tape import fill, replay

Arrays = dict[str, np.ndarray]
Steps = Iterator[Mapping[str, Any]]
Scenario = Callable[..., tuple[Any, Steps]]

GOLDENS = Path(__file__).parent.parent / "goldens"
TOLERANCE = 1e-4
UPDATES = 10
# extra optimised tensors that are in neither library's state dict
LOOSE = ("_log_alpha", "_alpha", "cql_log_alpha")


def run(scenario: Scenario, library: SimpleNamespace) -> Arrays:
    """Everything the scenario's updates changed or reported, by name."""
    compat = {} if library.package == "offlinerlkit" else {"compat": "kit"}
    policy, steps = scenario(library, compat)
    dynamics = getattr(policy, "dynamics", None)
    modules = {"policy": policy} | ({"dynamics": dynamics.model} if dynamics else {})
    for module in modules.values():
        fill(module)
    before = _numbers(policy, modules)
    result: Arrays = {}
    with replay(seed=7):
        for i, step in enumerate(steps):
            result |= {f"step{i}.{name}": np.asarray(value) for name, value in step.items()}
    after = _numbers(policy, modules)
    return result | after | {f"change.{k}": v - before[k] for k, v in after.items()}


def run_ours(scenario: Scenario) -> Arrays:
    return run(scenario, load_ours())


def run_kit(scenario: Scenario) -> Arrays:
    """Skips the test where there is no kit."""
    try:
        return run(scenario, load_kit())
    except KitAbsent as absent:
        pytest.skip(str(absent))


def differences(ours: Arrays, kit: Arrays) -> dict[str, float]:
    """Largest difference of each of the kit's arrays, relative to its largest entry."""
    result = {}
    for name, expected in kit.items():
        actual = ours[name]
        assert actual.size == expected.size, (name, actual.shape, expected.shape)
        gap = np.abs(actual.reshape(-1) - expected.reshape(-1)).max(initial=0.0)
        # a metric may be a sum that cancels: what is left of it is rounding
        floor = 1e-3 if name.startswith("step") else 1e-12
        result[name] = float(gap / max(np.abs(expected).max(initial=0.0), floor))
    return result


def assert_equal(ours: Arrays, kit: Arrays) -> None:
    """Parameters within 1e-4, and their changes within 1e-2, of the kit's."""
    gaps = differences(ours, kit)
    limits = {name: 1e-2 if name.startswith("change.") else TOLERANCE for name in gaps}
    beyond = {name: gap for name, gap in gaps.items() if not gap <= limits[name]}
    assert not beyond, beyond
    moved = [name for name in gaps if name.startswith("change.") and np.any(kit[name])]
    assert moved


def largest(ours: Arrays, kit: Arrays) -> dict[str, float]:
    """The largest difference among parameters, among their changes and among metrics."""
    result: dict[str, float] = {}
    for name, gap in differences(ours, kit).items():
        kind = name.split(".")[0].rstrip("0123456789")
        kind = kind if kind in ("change", "step") else "parameter"
        result[kind] = max(result.get(kind, 0.0), gap)
    return result


def golden_path(name: str) -> Path:
    return GOLDENS / f"{name}.npz"


def read_golden(name: str) -> Arrays:
    with np.load(golden_path(name)) as stored:
        return dict(stored)


def _numbers(policy: Any, modules: Mapping[str, nn.Module]) -> Arrays:
    tensors = {
        f"{prefix}.{name}": value
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
        # nothing reads a critic's: parameters in the kit, so its targets average them
        if ".saved_" not in name
    }
    loose = {f"policy.{name}": getattr(policy, name, None) for name in LOOSE}
    tensors |= {name: x for name, x in loose.items() if isinstance(x, torch.Tensor)}
    return {name: x.detach().cpu().numpy().astype(np.float32) for name, x in tensors.items()}
