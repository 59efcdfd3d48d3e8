"""The first run on a GPU: its tests, its speed, five epochs of ROMI; and what to send back.

    make gpu        # or, in an environment of your own: python benchmarks/first_gpu_run.py

Without a CUDA device it says so in one line and ends with status 2. A part that fails does not keep
the next from running; the status is 1 then.
"""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import torch

from offlinerlkit_romi.engine.device import machine, resolve_device
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.system.machine import versions

FOLDER = Path("gpu-run")
TESTS = os.path.relpath(Path(__file__).resolve().parents[1] / "tests")
MODULE = ("-m", "offlinerlkit_romi.cli")
PARTS = {
    "tests": ("-m", "pytest", "-q", "-n", "0", "-m", "gpu", TESTS),
    "bench": (*MODULE, "bench", "--device", "cuda", "--out", str(FOLDER / "bench.json")),
    "romi": (
        *(*MODULE, "train", "romi", "--device", "cuda", "--epoch", "5"),
        *("--task", "hopper-medium-v2", "--data", "generated", "--log-root", str(FOLDER / "log")),
    ),
}
SENT_BACK = (".txt", ".json", ".csv")  # neither weights nor states


def main() -> int:
    try:
        device = resolve_device("cuda")
    except UserError:
        print("no CUDA device is seen by torch here: there is nothing to run", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    report = {"versions": versions(), "machine": machine(device), "cuda": torch.version.cuda}
    parts = {}
    for name, words in PARTS.items():
        parts[name] = carry_out(name, words)
        write_json(FOLDER / "report.json", report | {"parts": parts})
    print(f"\n{report['machine']['device_name']}, torch {torch.__version__}")
    for name, part in parts.items():
        outcome = f"failed with status {part['status']}" if part["status"] else "done"
        print(f"{name:<6} {outcome}, {part['seconds']} s: {FOLDER / name}.txt")
    print(f"send back: {pack()}")
    return int(any(part["status"] for part in parts.values()))


def carry_out(name: str, words: tuple[str, ...]) -> dict[str, int]:
    """Run a part from here; what it prints is shown and kept."""
    print(f"\n== {name}: python {' '.join(words)}", flush=True)
    start = time.perf_counter()
    with (FOLDER / f"{name}.txt").open("w") as kept:
        command = [sys.executable, *words]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                kept.write(line)
    return {"status": process.returncode, "seconds": round(time.perf_counter() - start)}


def pack() -> Path:
    """Everything that was printed or measured, in one file."""
    target = FOLDER.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(FOLDER.rglob("*")):
            if path.suffix in SENT_BACK:
                archive.write(path)
    return target


if __name__ == "__main__":
    sys.exit(main())
