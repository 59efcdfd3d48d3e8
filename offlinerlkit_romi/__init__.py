"""ROMI, its baselines and its rivals for model-based offline reinforcement learning.

    import offlinerlkit_romi as romi

    summary = romi.train("romi", task="halfcheetah-random-v2", preset="quick")
    romi.evaluate(summary.run_dir).score
    policy = romi.load_policy(summary.run_dir)
    run = romi.load_run(summary.run_dir)  # its curve, settings, data, policy
    frame = romi.load_runs("log")  # the curves of all of them
    romi.export(summary.run_dir)  # one ONNX file: onnxruntime and numpy are all it needs
    dataset = romi.load_dataset("halfcheetah-random-v2")
    dataset = romi.load_dataset("my_log.csv", columns={"observations": ["x", "y"], ...})

All of them are imported at their first use, so that this package and its algorithms need
torch and numpy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.version import __version__

if TYPE_CHECKING:
    from offlinerlkit_romi.algorithms import register_algorithm
    from offlinerlkit_romi.callbacks import Callback, EarlyStopping, KeepBest, StopTraining
    from offlinerlkit_romi.data import load_dataset
    from offlinerlkit_romi.experiment.export import export_policy as export
    from offlinerlkit_romi.experiment.reload import evaluate, load_policy
    from offlinerlkit_romi.experiment.report.write import report
    from offlinerlkit_romi.experiment.run import train
    from offlinerlkit_romi.experiment.runs import Run, load_run, load_runs
    from offlinerlkit_romi.experiment.selection import select
    from offlinerlkit_romi.experiment.summary import Summary

__all__ = [
    "Callback",
    "EarlyStopping",
    "KeepBest",
    "Run",
    "StopTraining",
    "Summary",
    "__version__",
    "evaluate",
    "export",
    "load_dataset",
    "load_policy",
    "load_run",
    "load_runs",
    "register_algorithm",
    "report",
    "select",
    "train",
]

_FRONT_DOOR = {
    "train": ("offlinerlkit_romi.experiment.run", "train"),
    "evaluate": ("offlinerlkit_romi.experiment.reload", "evaluate"),
    "export": ("offlinerlkit_romi.experiment.export", "export_policy"),
    "load_policy": ("offlinerlkit_romi.experiment.reload", "load_policy"),
    "load_run": ("offlinerlkit_romi.experiment.runs", "load_run"),
    "load_runs": ("offlinerlkit_romi.experiment.runs", "load_runs"),
    "Run": ("offlinerlkit_romi.experiment.runs", "Run"),
    "Summary": ("offlinerlkit_romi.experiment.summary", "Summary"),
    "select": ("offlinerlkit_romi.experiment.selection", "select"),
    "load_dataset": ("offlinerlkit_romi.data", "load_dataset"),
    "report": ("offlinerlkit_romi.experiment.report.write", "report"),
    "register_algorithm": ("offlinerlkit_romi.algorithms", "register_algorithm"),
    **{
        name: ("offlinerlkit_romi.callbacks", name)
        for name in ("Callback", "EarlyStopping", "KeepBest", "StopTraining")
    },
}


def __getattr__(name: str) -> Any:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _FRONT_DOOR[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FRONT_DOOR])
