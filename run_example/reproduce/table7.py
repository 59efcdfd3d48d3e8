"""Table 7: perturbations; `python run_example/reproduce/table7.py --dry-run`."""

import sys

from experiment import PAPER, Experiment, main

EXPERIMENT = Experiment(
    "table7",
    "The number of perturbations changes little.",
    list(PAPER["perturbations"]),
    ["romi"],
    axes={"num_perturbations": [10, 20, 30]},
    varied=PAPER["perturbations"],
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
