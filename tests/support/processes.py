"""Whether a process is still there."""

import os
import time
from pathlib import Path


def assert_gone(pid: int, seconds: float = 60.0) -> None:
    """Wait until it has ended; dead and not yet asked for counts."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/stat")
        try:
            os.kill(pid, 0)
            if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives on")
