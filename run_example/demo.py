"""Make data, train ROMI on it, show what came out: some minutes on two CPU cores.

The data is generated here with behaviour policies that come with the package, so the scores are
not D4RL's. Further flags are passed on; fewer epochs shorten the model's pre-training with them:
`python run_example/demo.py --epoch 2`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from offlinerlkit_romi.cli import main

TASK = "halfcheetah-random-v2"
EPOCHS, FIT_EPOCHS = 11, 8  # of the preset `demo`
BEFORE = f"""\
ROMI on {TASK}: a two-legged robot is to learn to run from records of random movements alone.
  1  make data       a simulator records 100,000 steps of random actions          about 20 s
  2  fit a model     seven networks learn to predict the next state and reward    about 1 min
  3  train a policy  it practises inside the model, and ROMI keeps the model
                     cautious about what the policy makes of it                   about 2 min
Each line of step 3 shows the score in the real simulator: 0 is random, 100 an expert.
"""
AFTER = """
That is the whole way from data to policy. Try next:
  {command} evaluate '{run}'
      plays the policy again, on other episodes
  {command} compare --algos romi mopo td3bc --task {task} --preset quick
      the same data, three algorithms, one table and one figure (an hour)
  {command} train romi --help
      every option, with its value for the task and where the value comes from
"""


def demo(words: list[str], run: Callable[[list[str]], int] = main) -> int:
    """Train by `run`, with words around it; returns the exit status."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--log-root", default="log")
    parser.add_argument("--epoch", type=float, default=EPOCHS)
    told = parser.parse_known_args(words)[0]
    fit = max(1, round(FIT_EPOCHS * min(1.0, told.epoch / EPOCHS)))
    settings = ["--task", TASK, "--preset", "demo", "--dynamics-max-epochs", str(fit)]
    print(BEFORE, flush=True)
    status = run(["train", "romi", *settings, *words])
    runs = sorted(
        Path(told.log_root).glob(f"{TASK}/romi*/seed_*"), key=lambda run: run.stat().st_mtime
    )
    if status == 0 and runs:
        command = Path(sys.executable).with_name("offlinerlkit-romi")
        print(AFTER.format(command=command, run=runs[-1], task=TASK))
    return status


if __name__ == "__main__":
    sys.exit(demo(sys.argv[1:]))
