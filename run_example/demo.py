"""Make data, train ROMI on it, show what came out: under 15 minutes on two CPU cores.

The data is generated here with behaviour policies that come with the package, so the scores are
not D4RL's. Further flags are passed on: `python run_example/demo.py --epoch 5`.
"""

import sys

from offlinerlkit_romi.cli import main

SETTINGS = ["--task", "halfcheetah-random-v2", "--preset", "quick", "--data", "generated"]

if __name__ == "__main__":
    sys.exit(main(["train", "romi", *SETTINGS, *sys.argv[1:]]))
