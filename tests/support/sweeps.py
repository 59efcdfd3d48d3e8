"""A sweep in a process of its own, and one of its workers met in the midst of a run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from offlinerlkit_romi.experiment.folder import RunFolder
from tests.support.comparing import differences, outcome

ROOT = Path(__file__).parents[2]


def start_sweep(path: Path, where: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start it in a folder; what it prints goes to a file."""
    words = [sys.executable, "-m", "offlinerlkit_romi.cli", "sweep", str(path), "--on", where]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("ab") as out:
        return subprocess.Popen(
            words, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )


def runs_of(root: Path) -> dict[str, Path]:
    """The runs below a log root by task, algorithm and seed."""
    found = (path.parents[1] for path in root.glob("*/*/*/record/manifest.json"))
    return {f"{run.parent.relative_to(root)}/{run.name.partition('&')[0]}": run for run in found}


def holder_of(run: Path) -> int | None:
    """The process that trains in a run's folder."""
    lock = str((run / ".lock").resolve())
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(handle) == lock:
                return int(handle.parts[2])
        except OSError:
            continue
    return None


def kill_one(root: Path, sweep: subprocess.Popen[bytes], algo: str = "") -> Path | None:
    """Kill the process of a run that has saved a state after its first; None once all is over."""
    while sweep.poll() is None:
        for name, run in runs_of(root).items():
            states = [p for p in (run / "checkpoint").glob("state-*.pt") if int(p.stem[6:]) > 0]
            held = algo in name and states and not RunFolder(run).finished
            pid = holder_of(run) if held else None
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                return run
        time.sleep(0.02)
    return None


def resumed(root: Path) -> list[Path]:
    """Runs that went on in another process."""
    return [run for run in runs_of(root).values() if RunFolder(run).manifest.get("resumed")]


def differing(first: Path, second: Path) -> dict[str, list[str]]:
    """Runs of two log roots that are not bit for bit the same, or are in one alone."""
    ours, theirs = runs_of(first), runs_of(second)
    odd = {name: ["is there once"] for name in ours.keys() ^ theirs.keys()}
    for name in ours.keys() & theirs.keys():
        if found := differences(outcome(ours[name]), outcome(theirs[name])):
            odd[name] = found
    return odd
