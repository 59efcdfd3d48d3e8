"""Train ROMBRL: `python run_example/run_rombrl.py --task walker2d-medium-expert-v2`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "rombrl", *sys.argv[1:]]))
