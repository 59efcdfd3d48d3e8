"""A sweep under Ray, one of its workers killed with SIGKILL, beside one that nobody disturbed.

    python benchmarks/killed_sweep.py docs/results/sweep [SCRATCH]

Carries out FOLDER/sweep.yaml on Ray, kills the process of a run of ROMI's once it has saved, does
all again on a pool of processes, three seeds in each, and compares all runs bit for bit. Leaves
log.txt, killed.json and the table there. Exits with 1 if a run differs. Given again with the same
SCRATCH it goes on, as a sweep does.
"""

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from offlinerlkit_romi.system.machine import cpu_name, usable_cores, versions
from tests.support.sweeps import differing, kill_one, resumed, runs_of, start_sweep


def main() -> int:
    place = Path(sys.argv[1])
    scratch = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    for where in ("ray", "local"):
        file, log = scratch / where / "sweep.yaml", scratch / f"{where}.txt"
        if log.is_file() and "written:" in log.read_text():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        extra = {"ray": "", "local": "seeds_per_trial: 3\n"}
        file.write_text((place / "sweep.yaml").read_text() + extra[where])
        sweep = start_sweep(file, where, file.parent, log)
        if where == "ray" and not resumed(file.parent / "log"):
            kill_one(file.parent / "log", sweep, "romi")
        if sweep.wait():
            print(log.read_text())
            return 1
    return compare(place, scratch)


def compare(place: Path, scratch: Path) -> int:
    ours, theirs = scratch / "ray/log", scratch / "local/log"
    # but what Ray itself tells of the dead worker, with addresses
    lines = (scratch / "ray.txt").read_text().replace(f"{scratch}/ray/", "").splitlines(True)
    (place / "log.txt").write_text("".join(line for line in lines if "(raylet)" not in line))
    for table in (ours / "sweep").glob("*.md"):
        (place / table.name).write_text(table.read_text())
    names = {run: name for name, run in runs_of(ours).items()}
    went_on = [names[run] for run in resumed(ours)]
    found = {
        "command": f"python benchmarks/killed_sweep.py {place}",
        "runs": len(names),
        "went_on_in_another_process": went_on,
        "differences_to_undisturbed": differing(ours, theirs),
        "cores": usable_cores(),
        "cpu": cpu_name(),
        "load_average": os.getloadavg(),
        "versions": versions() | {"ray": version("ray")},
    }
    (place / "killed.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return int(bool(found["differences_to_undisturbed"]) or not went_on)


if __name__ == "__main__":
    sys.exit(main())
