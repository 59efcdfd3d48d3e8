"""What two runs of one configuration must agree on, bit for bit."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.engine import StateStore

# where a run lies, and how long things took
FREE_COLUMNS = ("time/",)
FREE_KEYS = ("run_dir", "wall_seconds", "ms_per_", "peak_memory")
FREE_PARTS = ("timer", "clock", "logger", "identity")


def outcome(run_dir: str | Path) -> dict[str, Any]:
    """Final weights, curves, summary and, where it was kept, the full state."""
    run_dir = Path(run_dir)
    found: dict[str, Any] = {
        name: torch.load(run_dir / name, weights_only=True)
        for name in ("model/policy.pth", "model/dynamics.pth", "checkpoint/best.pth")
        if (run_dir / name).is_file()
    }
    for path in (run_dir / "record").glob("*_training_progress.csv"):
        with path.open(newline="") as file:
            found[path.stem] = [without(row, FREE_COLUMNS) for row in csv.DictReader(file)]
    summary = json.loads((run_dir / "result" / "summary.json").read_text())
    found["summary"] = without(summary, FREE_KEYS)
    store = StateStore(run_dir / "checkpoint")
    manifest = json.loads((run_dir / "record" / "manifest.json").read_text())
    if manifest["config"]["keep_state"]["value"]:
        found["state"] = without(store.load(store.steps()[-1]), FREE_PARTS)
    return found


def without(row: dict[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(prefixes)}


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Places where two outcomes differ; NaN equals NaN."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.shape == second.shape and torch.equal(
            first.nan_to_num(7.25), second.nan_to_num(7.25)
        )
        return [] if same else [where]
    if isinstance(first, dict) and isinstance(second, dict):
        odd = [f"{where}/{key}" for key in first.keys() ^ second.keys()]
        both = [key for key in first if key in second]
        return odd + [d for k in both for d in differences(first[k], second[k], f"{where}/{k}")]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)} entries"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    same = first == second or (first != first and second != second)
    return [] if same else [f"{where}: {first!r} and {second!r}"]
