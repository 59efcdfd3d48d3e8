"""The suites of `compare`: shifts to play runs under, and benchmarks whose scores have bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offlinerlkit_romi.envs.shifts import SUITES as SHIFTS


@dataclass(frozen=True)
class Benchmark:
    """Tasks on which every algorithm trains by one preset.

    Attributes:
        name: Of the suite, its preset and its file of bands.
        tasks: Names of its tasks.
    """

    name: str
    tasks: tuple[str, ...]


_TASKS = ("halfcheetah-random-v2", "halfcheetah-medium-replay-v2", "hopper-medium-v2")
BENCHMARKS = {"small-v1": Benchmark("small-v1", _TASKS)}
SUITES: Mapping[str, tuple[str, ...] | Benchmark] = {**SHIFTS, **BENCHMARKS}
