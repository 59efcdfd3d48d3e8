"""A trained policy as one file that runs without this package.

Whatever the run's algorithm and networks are, the file holds one function: raw observations (n, S)
to deterministic actions (n, A) in the user's units, float32, for any n; and what the run was.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from offlinerlkit_romi.data import load
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.errors import UserError, reason_of, unknown_name
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.kit_runs import KitRun, obs_statistics
from offlinerlkit_romi.experiment.reload import OwnRun, facts_of, find_run
from offlinerlkit_romi.system.files import finite, written_whole
from offlinerlkit_romi.version import __version__

Facts = Mapping[str, Any]
INPUT, OUTPUT = "observations", "actions"


class Deployed(nn.Module):
    """A policy's deterministic action of raw observations, in the user's units.

    Args:
        policy: In evaluation mode, on the CPU.
        task: Whose actions it gives.
    """

    def __init__(self, policy: Any, task: Task) -> None:
        super().__init__()
        for name in policy.acts_with:  # critics and model stay behind
            self.add_module(name, getattr(policy, name))
        self._act, self._scaler = policy.choose_action, policy.scaler
        self._to_user = task.to_user if isinstance(task, CustomTask) else None

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(n, S) -> (n, A)."""
        if self._scaler is not None:
            observations = self._scaler.transform_tensor(observations)
        action: torch.Tensor = self._act(observations, deterministic=True)
        return action if self._to_user is None else self._to_user(action)


def export_policy(
    run_dir: str | Path,
    output: str | Path | None = None,
    format: str = "onnx",
    *,
    algo: str | None = None,
    task: str | None = None,
    data: str | None = None,
) -> Path:
    """Write a run's policy as one file that needs neither this package nor its data.

    Args:
        run_dir: A run's folder or a kit-style `policy.pth`, see `load_policy`.
        output: The file; by default `policy.onnx` or `policy.pt2` beside the run's weights.
        format: `onnx`, for onnxruntime; or `torch`, for ``torch.export.load(file).module()``.
        algo: Algorithm, where a kit-style run does not tell.
        task: Task, likewise.
        data: What a kit-style run was trained on, where its policy acts on standardised
            observations; see `evaluate`.

    Returns:
        The file. Input `observations` (n, S) and output `actions` (n, A) are float32.

    Raises:
        UserError: No such run, it diverged, or the file cannot be written.
    """
    if format not in FORMATS:
        raise UserError(unknown_name("format", format, FORMATS))
    suffix, write = FORMATS[format]
    run = find_run(Path(run_dir), algo, task)
    if isinstance(run, OwnRun) and run.folder.diverged:
        raise UserError(f"{run_dir} diverged: its policy is no result, export another run's")
    scaler = None if data is None else obs_statistics(load(run.task, data))
    policy = run.load(torch.device("cpu"), scaler)
    facts = facts_of(run)
    module = Deployed(policy, facts).requires_grad_(False)
    _check_finite(module, run.weights)
    target = Path(output) if output else run.weights.with_suffix(suffix)
    program = trace(module, facts.obs_dim)
    try:
        with written_whole(target) as partial:
            write(program, partial, finite(describe(run, facts, policy.scaler)))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def describe(run: OwnRun | KitRun, task: Task, scaler: Any) -> dict[str, Any]:
    """What goes into the file beside the function, in plain values."""
    low, high = task.bounds if isinstance(task, CustomTask) else ([-1.0], [1.0])
    statistics = None if scaler is None else {"mean": scaler.mu, "std": scaler.std}
    facts = {
        "algorithm": run.algo,
        "task": run.task,
        "env_id": task.env_id,
        "max_episode_steps": task.max_episode_steps,
        "action_low": np.broadcast_to(low, task.action_dim).tolist(),
        "action_high": np.broadcast_to(high, task.action_dim).tolist(),
        "normalisation": statistics and {n: x.ravel().tolist() for n, x in statistics.items()},
        "data_source": run.data[0],
        "offlinerlkit_romi": __version__,
    }
    return facts | _result_of(run.folder) if isinstance(run, OwnRun) else facts


def _result_of(folder: RunFolder) -> dict[str, Any]:
    manifest = folder.manifest
    facts = {
        "data_sha256": manifest["data"].get("sha256"),
        "seed": manifest.get("seed"),
        "status": folder.status,
        "score": None,
    }
    if not folder.finished:
        return facts
    summary = folder.summary
    score = {name: summary.result(name) for name in ("last10_mean", "last", "behaviour")}
    kind = "return" if summary.returns else "score"
    facts["score"] = {"kind": kind, "evaluations": summary.evaluations, **score}
    return facts | {"steps": summary.steps, "estimates": summary.estimates}


def _check_finite(module: nn.Module, weights: Path) -> None:
    for name, value in module.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{weights}: {name} is not finite, training diverged: export another")


def trace(module: Deployed, obs_dim: int) -> torch.export.ExportedProgram:
    """The function that a file holds.

    Raises:
        UserError: The policy's action is no function of tensors that torch can follow.
    """
    example = torch.zeros(2, obs_dim)
    shapes = {INPUT: {0: torch.export.Dim("batch")}}
    try:
        with torch.no_grad(), _quiet():
            module(example)  # what is copied to the device once, is copied before the trace
            return torch.export.export(module, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch's many kinds, and the user's own networks'
        raise UserError(
            f"torch.export cannot follow the policy's choose_action ({reason_of(error)}): make it "
            "of operations on tensors alone, without a branch on their values"
        ) from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path, facts: Facts) -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {' and '.join(missing)}: pip install 'offlinerlkit-romi[export]'"
        )
    with torch.no_grad(), _quiet():
        made = torch.onnx.export(
            program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
    assert made is not None
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    made.model.metadata_props.update(texts)
    made.save(str(path))


def _write_torch(program: torch.export.ExportedProgram, path: Path, facts: Facts) -> None:
    with path.open("wb") as file, _quiet():
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts)})


FORMATS: dict[str, tuple[str, Callable[[torch.export.ExportedProgram, Path, Facts], None]]] = {
    "onnx": (".onnx", _write_onnx),
    "torch": (".pt2", _write_torch),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own news of torchvision and of what it will call otherwise to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
