"""Figures 1, 6, 7, 8: RAMBO's weight; `python run_example/reproduce/figure1.py --dry-run`."""

import sys

from experiment import REPLAY, Experiment, main

EXPERIMENT = Experiment(
    "figure1",
    "Larger weights: Q far too low, exploding gradients, lower scores.",
    REPLAY,
    ["rambo"],
    axes={"adv_weight": [0.0, 3e-4, 5e-3, 5e-2, 0.1], "adv_reduction": ["mean", "sum"]},
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
