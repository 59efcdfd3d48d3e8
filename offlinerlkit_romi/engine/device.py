"""The device a run computes on, and what of the machine may change a last digit."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.machine import cpu_name


def resolve_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or cuda:N into a device that is there.

    Raises:
        UserError: No such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"--device {name}: this machine offers {count} CUDA devices; use --device cpu"
        )
    return device


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many CPU threads for a while; 0 leaves their number alone.

    The last bits of a product depend on it.
    """
    before = torch.get_num_threads()
    wanted = count or before
    if before != wanted:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if before != wanted:
            torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """The accelerator's model, or the CPU's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def peak_memory(device: torch.device) -> float:
    """Most bytes that this process had at once, on a CUDA device or else of the host.

    NaN where the system does not tell.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return math.nan
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)  # bytes there, kB elsewhere


def machine(device: torch.device) -> dict[str, Any]:
    """Where a run takes place, as far as it may change a last digit."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": str(device),
        "device_name": device_name(device),
    }
