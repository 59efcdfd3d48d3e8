"""Which float32 matrix product is fastest here without costing accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

# float32 products of this size err by about 4e-7 of the largest entry; bf16 ones by about 3e-3
FLOAT32_LIKE = 5e-6
SETTINGS = ("highest", "high", "medium")
# Where another setting has better kernels it is about twice as fast. A smaller lead may be chance,
# and then two runs of one seed would round differently; small products are slower there as well.
CLEAR_LEAD = 1.25


class PrecisionProbe(NamedTuple):
    """One setting's speed (GFLOP/s) and its largest error relative to the largest entry."""

    setting: str
    gflops: float
    error: float


def seconds_of_product(a: torch.Tensor, b: torch.Tensor) -> float:
    """How long a @ b takes."""
    start = time.perf_counter()
    _ = a @ b
    return time.perf_counter() - start


def probe_matmul_precision(
    size: int = 256, repeats: int = 5, seconds_of: Callable[..., float] = seconds_of_product
) -> list[PrecisionProbe]:
    """Time a CPU product under each of torch's settings and compare it with float64.

    Takes a few milliseconds. The current setting is put back.
    """
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(size, size, generator=generator)
    b = torch.randn(size, size, generator=generator)
    exact = a.double() @ b.double()
    probes = []
    try:
        for setting in SETTINGS:
            torch.set_float32_matmul_precision(setting)
            product = a @ b
            seconds = min(seconds_of(a, b) for _ in range(repeats))
            error = float((product.double() - exact).abs().max() / exact.abs().max())
            probes.append(PrecisionProbe(setting, 2 * size**3 / seconds / 1e9, error))
    finally:
        torch.set_float32_matmul_precision(before)
    return probes


def choose_matmul_precision(
    setting: str = "auto",
    device: str | torch.device = "cpu",
    probe: Callable[[], list[PrecisionProbe]] = probe_matmul_precision,
) -> str:
    """Set torch's float32 matmul precision and return what was set.

    On CUDA `high` and `medium` round the factors to TF32, ten bits of fraction: `auto` is `highest`
    there, and the others are for whoever asks for them.

    Args:
        setting: `auto` takes the fastest setting whose error is float32-like on this CPU, if it
            is clearly faster than `highest`; otherwise one of torch's own names.
        device: where the products will be.
        probe: measures the settings on this CPU.

    Source: on AVX-512 machines "medium" may select other oneDNN kernels of the same accuracy at
        twice the speed; on other CPUs it may mean bf16, hence the probe.
    """
    if setting == "auto" and torch.device(device).type == "cuda":
        setting = "highest"
    elif setting == "auto":
        full, *others = probe()
        exact = [p for p in others if p.error < FLOAT32_LIKE]
        best = max(exact, key=lambda p: p.gflops, default=full)
        setting = (best if best.gflops > CLEAR_LEAD * full.gflops else full).setting
    torch.set_float32_matmul_precision(setting)
    return setting
