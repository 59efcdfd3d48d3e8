"""Time several ways of doing one thing in turn, so that a machine's noise meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Work:
    """One way of doing a piece of training.

    Attributes:
        label: Whose way it is; a column of the table.
        run: Does `units` pieces.
        units: Pieces per call.
        engine: `eager`, or what else runs the update.
        precision: torch's float32 matmul precision while it runs.
        slow: Takes so long that a third of the repeats must do.
        variant: A piece of its own in the tables, timed in the same turns.
        algo: Whose row it is, where a piece has several in the same turns.
        warm_ups: Calls before the first that is timed.
        told: Lines that the engine told while it ran: why steps ran eagerly after all.
    """

    label: str
    run: Callable[[], Any]
    units: int = 1
    engine: str = "eager"
    precision: str = "highest"
    slow: bool = False
    variant: str = ""
    algo: str = ""
    warm_ups: int = 1
    told: Sequence[str] = ()


class Sample(NamedTuple):
    """Seconds per piece: by the clock, and of the processor in this process."""

    wall: float
    cpu: float


@dataclass
class Timing:
    """What was measured of one `Work`.

    Attributes:
        samples: One per repeat.
        gflop: Of matrix products per piece; None where they were not counted.
        peak_mb: Peak memory while it ran: the device's, or the whole process's on a CPU.
    """

    work: Work
    samples: list[Sample] = field(default_factory=list)
    gflop: float | None = None
    peak_mb: float | None = None

    @property
    def wall_ms(self) -> float:
        """Median milliseconds per piece by the clock."""
        return 1e3 * statistics.median(sample.wall for sample in self.samples)

    @property
    def cpu_ms(self) -> float:
        """Median milliseconds of the processor per piece."""
        return 1e3 * statistics.median(sample.cpu for sample in self.samples)


class Piece(NamedTuple):
    """A piece of training and the ways of doing it that were timed."""

    name: str
    algo: str  # "" where the algorithm does not matter
    timings: list[Timing]


def measure(
    works: Sequence[Work], repeats: int, device: torch.device, count_products: bool = True
) -> list[Timing]:
    """Warm up, then take samples in turn: A B C A B C ...

    Args:
        works: The ways, each started afresh by nothing: they go on where they stopped.
        repeats: Samples of each.
        device: Waited for before the clock is read.
        count_products: Count the FLOPs of matrix products in the warm-up.
    """
    before = torch.get_float32_matmul_precision()
    timings = [Timing(work) for work in works]
    try:
        for timing in timings:
            if timing.work.warm_ups:
                _warm_up(timing, device, count_products)
        for repeat in range(repeats):
            for timing in timings:
                if not timing.work.slow or repeat % 3 == 0:
                    timing.samples.append(_sample(timing.work, device))
    finally:
        torch.set_float32_matmul_precision(before)
    return timings


def peak_gflops(precision: str, device: torch.device, size: int = 1024) -> float:
    """GFLOP/s of a large square product, the best of ten: the ceiling of everything else."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    product = Work("peak", lambda: torch.mm(a, b), precision=precision)
    (timing,) = measure([product], 10, device, count_products=False)
    return 2 * size**3 / 1e9 / min(min(sample) for sample in timing.samples)


def _warm_up(timing: Timing, device: torch.device, count_products: bool) -> None:
    """Calls that are not timed; the first is watched instead."""
    work = timing.work
    reset_peak(device)
    torch.set_float32_matmul_precision(work.precision)
    if count_products and work.engine == "eager":  # a replayed graph shows no products
        with _ProductCounter() as counter:
            work.run()
        timing.gflop = counter.flops / work.units / 1e9 or None
    else:
        work.run()
    for _ in range(work.warm_ups - 1):
        work.run()
    timing.peak_mb = peak_megabytes(device)


def _sample(work: Work, device: torch.device) -> Sample:
    torch.set_float32_matmul_precision(work.precision)
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work.run()
    _wait(device)
    return Sample(
        (time.perf_counter() - wall) / work.units, (time.process_time() - cpu) / work.units
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Start counting the peak afresh, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: the peak becomes what is resident now


def peak_megabytes(device: torch.device) -> float | None:
    """Since `reset_peak`: allocated on the device, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = STATUS.read_text("utf-8").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(values[0]) * 1024 / 1e6 if values else None


class _ProductCounter(TorchDispatchMode):
    """Adds up the FLOPs of matrix products, those of backward passes included.

    Not torch's own counter: its hooks refuse `torch.autograd.grad` with a leaf as its input.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **kwargs, out_val=out))
        return out
