"""Peak memory, of the device or of this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
