"""Table 6: D4RL AntMaze; `python run_example/reproduce/table6.py --dry-run`."""

import sys

from experiment import main, scores_of

EXPERIMENT = scores_of(
    "table6", "Table 6", "d4rl", "Success rate; the paper does not tell its number of steps."
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
