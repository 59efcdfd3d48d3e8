"""Table 5: seconds per epoch; `python run_example/reproduce/table5.py --dry-run`."""

import sys

from experiment import PAPER, Experiment, main

EXPERIMENT = Experiment(
    "table5",
    "The report speaks of speed and memory; paper.yaml has the paper's seconds per epoch.",
    [f"{task}-v2" for task in PAPER["seconds_per_epoch"]],
    ["romi", "rambo"],
    options={"epoch": 5},
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
