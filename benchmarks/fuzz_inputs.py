"""Mutate data files, settings, presets, states and manifests, and see how training ends.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_inputs.py --cases 600 --out NAME.json

Exits with 1 if one ends in a traceback, hangs, says anything but one line, or leaves half a folder.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.fuzz import Fuzzer

KINDS = ("data file", "setting", "preset", "checkpoint", "manifest")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start, cases = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        fuzzer, rng = Fuzzer(Path(folder)), random.Random(chosen.seed)
        for number in range(chosen.cases):
            case = fuzzer.case(chosen.kinds[number % len(chosen.kinds)], rng)
            cases.append(case)
            if case.problem:
                print(case, flush=True)
            for left in [*Path(folder).glob("log-*"), *Path(folder).glob("run-*")]:
                if fuzzer._stopped is None or left not in fuzzer._stopped.parents:
                    shutil.rmtree(left)
    problems = [case for case in cases if case.problem]
    ends = {0: "trained", 2: "one line, status 2", 3: "diverged, status 3"}
    report = {
        "cases": len(cases),
        "problems": [case.__dict__ for case in problems],
        "by_kind": {
            kind: Counter(ends.get(c.status, "traceback") for c in cases if c.kind == kind)
            for kind in chosen.kinds
        },
        "seed": chosen.seed,
        "seconds": round(time.perf_counter() - start),
    }
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
