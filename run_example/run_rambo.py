"""Train RAMBO: `python run_example/run_rambo.py --task walker2d-medium-expert-v2`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "rambo", *sys.argv[1:]]))
