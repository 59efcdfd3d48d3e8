"""A sweep under Ray, one of its workers killed with SIGKILL, beside one that nobody disturbed.

    python benchmarks/killed_sweep.py docs/results/sweep

Carries out FOLDER/sweep.yaml on Ray, kills the process of a run of ROMI's once it has saved, does
all again on a pool of processes, and compares all runs bit for bit. Leaves log.txt, killed.json and
the table there. Exits with 1 if a run differs.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from offlinerlkit_romi.system.machine import cpu_name, usable_cores, versions
from tests.support.sweeps import differing, kill_one, resumed, runs_of, start_sweep


def main() -> int:
    place = Path(sys.argv[1])
    text, seconds = (place / "sweep.yaml").read_text(), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, killed = Path(scratch), None
        for where in ("ray", "local"):
            file = folder / where / "sweep.yaml"
            file.parent.mkdir()
            file.write_text(text)
            start = time.perf_counter()
            sweep = start_sweep(file, where, file.parent, folder / f"{where}.txt")
            if where == "ray":
                killed = kill_one(file.parent / "log", sweep, "romi")
            if sweep.wait():
                print((folder / f"{where}.txt").read_text())
                return 1
            seconds[where] = round(time.perf_counter() - start, 1)
        ours, theirs = folder / "ray/log", folder / "local/log"
        log = (folder / "ray.txt").read_text().replace(f"{folder}/ray/", "")
        (place / "log.txt").write_text(log)
        for table in (ours / "sweep").glob("*.md"):
            (place / table.name).write_text(table.read_text())
        names = {run: name for name, run in runs_of(ours).items()}
        found = {
            "command": f"python benchmarks/killed_sweep.py {place}",
            "runs": len(names),
            "killed": names.get(killed),
            "resumed": [names[run] for run in resumed(ours)],
            "differences_to_undisturbed": differing(ours, theirs),
            "seconds": seconds,
            "cores": usable_cores(),
            "cpu": cpu_name(),
            "load_average": os.getloadavg(),
            "versions": versions() | {"ray": __import__("ray").__version__},
        }
    (place / "killed.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return int(bool(found["differences_to_undisturbed"]) or not killed)


if __name__ == "__main__":
    sys.exit(main())
