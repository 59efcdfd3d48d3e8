"""Several algorithms side by side: `compare.py --algos iql romi --task hopper-medium-v2`."""

import sys

from offlinerlkit_romi.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
