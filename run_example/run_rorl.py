"""Train RORL: `python run_example/run_rorl.py --task hopper-medium-v2 --preset attack`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "rorl", *sys.argv[1:]]))
