"""Policy updates, singly or as many as an engine replays at once, and what happens in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from offlinerlkit_romi.engine import Engine, MetricMeans, Steps
from offlinerlkit_romi.policy_trainer.sentinel import Sentinel

Metrics = Mapping[str, torch.Tensor | float]


@dataclass(frozen=True)
class Event:
    """Something done every `every` policy steps; 0 means never.

    Attributes:
        phase: The name its time is counted under.
        every: Policy steps from one call to the next.
        action: Does it and returns metrics.
        before_update: Due at steps 0, n, 2n, ... ahead of the update; otherwise once n, 2n, ...
            updates are done.
        units: Pieces of work per call, for the time per piece.
    """

    phase: str
    every: int
    action: Callable[[], Metrics]
    before_update: bool = False
    units: int = 1

    def due(self, step: int) -> bool:
        """Whether to act around the update number `step`, counted from 0."""
        return self.every > 0 and (step + (not self.before_update)) % self.every == 0


class Updates:
    """Updates of a policy, their metrics summed up and watched.

    Args:
        policy: What is trained.
        engine: Carries out what it can capture.
        sentinel: Sees the metrics.
        sample: Draws what one update takes.
        buffers: Where it draws from, by what they hold.

    Attributes:
        means: The metrics' sums.
        clock: Policy steps done, for captured steps, which the host cannot tell.
    """

    def __init__(
        self,
        policy: Any,
        engine: Engine,
        sentinel: Sentinel,
        sample: Callable[[], Any],
        buffers: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._policy, self._engine, self._sentinel = policy, engine, sentinel
        self._sample, self._buffers = sample, buffers
        self.means = MetricMeans()
        self.clock = torch.zeros((), dtype=torch.int64, device=device_of(policy))
        self._steps: Steps | None = None
        self._unroll = 1

    def hand_to_engine(self, periods: Iterable[int], obstacle: str) -> None:
        """Let the engine carry them out if it can; once is enough.

        Args:
            periods: Something else may be due whenever so many are done.
            obstacle: Why they cannot be captured, if so.
        """
        # the kit's own policies have no `update`
        if self._steps or not self._engine.captures or not hasattr(self._policy, "update"):
            return
        shared = {"clock": self.clock, "means": self.means, "sentinel": self._sentinel}
        self._engine.shared |= shared
        steps = self._engine.steps("the policy step", self._update, self.changed, obstacle)
        if steps.captured:
            self._steps = steps
            self._unroll = self._engine.unrolled(math.gcd(*periods))

    def ahead(self, done: int, end: int) -> int:
        """Updates until something else may be due: as many as a replay does, or one."""
        whole = done % self._unroll == 0 and done + self._unroll <= end
        return self._unroll if whole else 1

    def advance(self, done: int, count: int) -> None:
        """Do `count` updates after `done` earlier ones."""
        if self._steps is None:
            update = getattr(self._policy, "update", self._policy.learn)
            self.note(update(self._sample()), done)
        else:
            self.clock.fill_(done)
            self._steps(count, self._policy.phase)

    def note(self, metrics: Metrics, step: int) -> None:
        """Take the metrics of what was done around the update `step`, counted from 0."""
        self.means.add(metrics)
        self._sentinel.watch(metrics, step + 1)

    def changed(self) -> dict[str, Any]:
        """What an update changes."""
        return state_of(self._policy) | {
            f"draws of {name}": buffer.generator
            for name, buffer in self._buffers().items()
            if getattr(buffer, "generator", None) is not None
        }

    def _update(self, count: int, phase: int) -> None:
        """Some updates, `phase` of the first, with all bookkeeping on the device."""
        for _ in range(count):
            metrics = self._policy.update(self._sample())
            self.clock.add_(1)
            self.means.add(metrics)
            self._sentinel.watch(metrics, self.clock)


def state_of(policy: Any) -> dict[str, Any]:
    """What a policy says training mutates; the kit's own policies say nothing."""
    state = getattr(policy, "training_state", None)
    return {"policy": policy} if state is None else state()


def device_of(policy: Any) -> torch.device:
    """Where its first parameter lies."""
    parameter = next(iter(policy.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device
