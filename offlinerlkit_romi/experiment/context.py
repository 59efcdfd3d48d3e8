"""What one run works with, from its configuration to its saved states."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import Engine, Generators, StateStore, make_engine
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import RunConfig, as_dict
from offlinerlkit_romi.experiment.folder import MODEL_ROWS, OUTPUTS, RunFolder
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.experiment.resume import config_hash
from offlinerlkit_romi.experiment.user_data import task_of
from offlinerlkit_romi.policy_trainer import Callback, Checkpoints, Interrupts
from offlinerlkit_romi.utils.logger import DEBUG, INFO, WARN, Logger, make_log_dirs

# by verbosity: what is heard on the console
LEVELS = (WARN, INFO, DEBUG)

MakeEngine = Callable[[str, torch.device, Callable[[str], None]], Engine]


class Clock:
    """Seconds of a run over all its processes."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._before = 0.0

    def seconds(self) -> float:
        """Since the run's start, the time between two processes left out."""
        return self._before + time.perf_counter() - self._start

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on counting."""
        self._before = state["seconds"]


class Identity:
    """What a state belongs to: the configuration and its hash."""

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved

    def state_dict(self) -> dict[str, Any]:
        """Algorithm, values and hash."""
        values = as_dict(self._resolved.config)
        return {"algo": self._resolved.algo, "values": values, "hash": config_hash(self._resolved)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare.

        Raises:
            UserError: The state is of another configuration.
        """
        if state["hash"] != config_hash(self._resolved):
            raise UserError(
                "the saved state is of another configuration, or of an earlier version of this "
                "package: go on with that version (record/manifest.json), or start the run afresh"
            )


@dataclass(frozen=True)
class Context:
    """What one run works with; its folder is made when first asked for.

    Attributes:
        resolved: The configuration.
        earlier: The run it goes on with; None for a new one.
        dataset: Transitions; never written to, for runs side by side share them.
        device: Where everything lives.
        argv: The command line, for the record.
        start: When the process began, by `time.perf_counter`.
        interrupts: Tells of a signal to stop.
        label: Put before every line on the console, where several runs share it.
        row: The terminal row of the progress bar, likewise.
        callbacks: Follow the run, see `Callback`.
        make_engine: Makes what carries out updates, from --engine, the device and who is told.
        verbosity: 0 tells of warnings alone, 1 of the course, 2 of everything.
    """

    resolved: Resolved
    earlier: RunFolder | None
    dataset: Dataset
    device: torch.device
    argv: list[str]
    start: float
    interrupts: Interrupts
    label: str = ""
    row: int | None = None
    callbacks: Sequence[Callback] = ()
    make_engine: MakeEngine = make_engine
    verbosity: int = 2

    @property
    def config(self) -> RunConfig:
        """The configuration's values."""
        return self.resolved.config

    @property
    def task(self) -> Task:
        """What the data are of."""
        return task_of(self.dataset)

    @cached_property
    def logger(self) -> Logger:
        """The run's logger; with it a new run gets its folder."""
        outputs = {n: kind for n, kind in OUTPUTS.items() if self.config.model or n != MODEL_ROWS}
        return Logger(
            self._new_folder() if self.earlier is None else str(self.earlier.path),
            outputs,
            resume=self.earlier is not None,
            console_tables=False,
            label=self.label,
            row=self.row,
            console_level=LEVELS[self.verbosity],
        )

    def _new_folder(self) -> str:
        return make_log_dirs(
            self.config.task,
            self.config.algo_name or self.resolved.algo,
            self.config.seed,
            {"data": self.dataset.info.source},
            ["data"],
            root=self.config.log_root,
        )

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return self.earlier or RunFolder(self.logger.dir)

    @cached_property
    def generators(self) -> Generators:
        """The run's sources of randomness."""
        return Generators(self.config.seed, self.device)

    @cached_property
    def clock(self) -> Clock:
        """The run's time."""
        return Clock(self.start)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The run's states, and when they are saved."""
        parts = {
            "identity": Identity(self.resolved),
            "generators": self.generators,
            "logger": self.logger,
            "clock": self.clock,
        }
        return Checkpoints(
            StateStore(self.logger.checkpoint_dir),
            parts,
            self.logger.log,
            every=self.config.checkpoint_freq,
            share=self.config.checkpoint_share,
            keep_last=self.config.keep_state,
        )
