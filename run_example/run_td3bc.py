"""Train TD3BC: `python run_example/run_td3bc.py --task walker2d-medium-expert-v2`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "td3bc", *sys.argv[1:]]))
