"""Table 1: D4RL MuJoCo; `python run_example/reproduce/table1.py --dry-run`."""

import sys

from experiment import main, scores_of

EXPERIMENT = scores_of(
    "table1", "Table 1", "d4rl", "ROMI has the best or tied mean on 9 of 12 tasks."
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
