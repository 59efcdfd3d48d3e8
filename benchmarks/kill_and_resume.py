"""Kill training at random moments with SIGKILL, resume it, and compare bit for bit.

    OMP_NUM_THREADS=1 python benchmarks/kill_and_resume.py --kills 50 --out NAME.json

Needs a POSIX system and about 5 seconds per kill. Exits with 1 if a resumed run differs from the
run that nobody killed in one bit of its weights, a number of its curves or its summary.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from offlinerlkit_romi.experiment.resolve import ALGORITHMS
from tests.faults.harness import SETTINGS, run_trials

WANTED = ("romi", "rambo", "mopo", "mobile", "iql")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--algos", nargs="+", default=[a for a in WANTED if a in ALGORITHMS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--eval-async", action="store_true", help="evaluate every epoch in a worker"
    )
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    changes = {"eval_async": True, "eval_freq": 1} if chosen.eval_async else {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trials = run_trials(chosen.algos, chosen.kills, Path(folder), chosen.seed, print, **changes)
    killed = [trial for trial in trials if trial.killed]
    different = [trial for trial in trials if trial.differences]
    report = {
        "kills": len(killed),
        "bit_equal": len([trial for trial in killed if not trial.differences]),
        "ended_before_the_kill": len(trials) - len(killed),
        "by_algorithm": Counter(trial.algo for trial in killed),
        "by_phase": Counter(trial.phase for trial in killed),
        "resumed_from_step": Counter(str(trial.resumed_from) for trial in killed),
        "different": [trial.__dict__ for trial in different],
        "seed": chosen.seed,
        "settings": SETTINGS | changes,
        "seconds": round(time.perf_counter() - start),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
