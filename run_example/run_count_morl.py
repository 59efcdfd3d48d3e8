"""Train COUNT_MORL: `python run_example/run_count_morl.py --task walker2d-medium-expert-v2`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "count_morl", *sys.argv[1:]]))
