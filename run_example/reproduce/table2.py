"""Table 2: NeoRL; `python run_example/reproduce/table2.py --dry-run`."""

import sys

from experiment import main, scores_of

EXPERIMENT = scores_of(
    "table2", "Table 2", "neorl", "ROMI is best on 6 of 9 tasks, above RAMBO on 9."
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
