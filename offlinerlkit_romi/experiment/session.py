"""One process's part of a run: what it works with, and how it ties in with earlier parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import Generators, StateStore
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import as_dict
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.own_data import task_of
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.experiment.resume import config_hash, other_circumstances
from offlinerlkit_romi.policy_trainer import Checkpoints, Interrupts, PolicyTrainer
from offlinerlkit_romi.utils.logger import Logger


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
            raise UserError("the saved state is of another configuration: start the run afresh")


@dataclass
class Session:
    """A process's part of a run.

    Attributes:
        resolved: The configuration.
        earlier: The run this one goes on with.
        folder: Its folder.
        dataset: Transitions.
        device: Where everything lives.
        logger: The run's logger.
        interrupts: Tells of a signal to stop.
        argv: The command line, for the record.
        start: When this process began, by `time.perf_counter`.
    """

    resolved: Resolved
    earlier: RunFolder | None
    folder: RunFolder
    dataset: Dataset
    device: torch.device
    logger: Logger
    interrupts: Interrupts
    argv: list[str]
    start: float
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(self.start)

    @property
    def task(self) -> Task:
        """What the data are of."""
        return task_of(self.dataset)

    def checkpoints(self, generators: Generators) -> Checkpoints:
        """The run's states, and when they are saved."""
        config = self.resolved.config
        parts = {
            "identity": Identity(self.resolved),
            "generators": generators,
            "logger": self.logger,
            "clock": self.clock,
        }
        return Checkpoints(
            StateStore(self.logger.checkpoint_dir),
            parts,
            self.logger.log,
            every=config.checkpoint_freq,
            share=config.checkpoint_share,
            keep_last=config.keep_state,
        )

    def begin(self, trainer: PolicyTrainer, checkpoints: Checkpoints) -> None:
        """Put a resumed trainer where it was, or save the start of a new one."""
        step = trainer.resume()
        if step is None:
            checkpoints.begun(trainer.state_parts())
            return
        self.logger.log(f"resumed after step {step}: {self.logger.dir}")
        for difference in other_circumstances(self.folder, self.device):
            self.logger.log(f"note: {difference}: the last digits may differ")
        self.folder.note_resumption(self.resolved, step, self.device, self.argv)
