"""Figures 3 and 9: xi; `python run_example/reproduce/figure3.py --dry-run`."""

import sys

from experiment import REPLAY, Experiment, main

EXPERIMENT = Experiment(
    "figure3",
    "Q falls monotonically in xi; neither Q nor a gradient's norm blows up.",
    REPLAY,
    ["romi"],
    axes={"xi": [0.01, 0.1, 1.0, 10.0], "variant": ["exact", "release"]},
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
