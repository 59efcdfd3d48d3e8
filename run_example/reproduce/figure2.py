"""Figure 2 and Section 5.2: no weighting; `python run_example/reproduce/figure2.py --dry-run`."""

import sys

from experiment import REPLAY, Experiment, main

EXPERIMENT = Experiment(
    "figure2",
    "Model error per rollout step (a chart of the report) and scores, with weighting and without.",
    REPLAY,
    ["romi"],
    axes={"variant": ["exact", "no_weighting"]},
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
