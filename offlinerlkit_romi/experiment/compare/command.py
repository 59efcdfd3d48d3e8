"""The arguments of `compare ...` and `check ...`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.experiment.suites import SUITES

PROGRAM = "offlinerlkit-romi compare"
DESCRIPTION = """\
Train several algorithms on one task with several seeds, then print one table and draw one figure.
Runs that are finished are used as they are, runs that stopped are gone on with, missing ones are
made; the same command can be given again at any time. Every training flag that is not listed here
(`offlinerlkit-romi train <algo> --help`) goes to each algorithm that has it."""
EXAMPLES = f"""\
examples:
  {PROGRAM} --algos cql iql mopo rambo mobile romi --task hopper-medium-v2 --seeds 0 1 2
  {PROGRAM} --algos mopo romi --task halfcheetah-random-v2 --seeds 0 1 2 --preset quick \\
      --transitions 100000 --set romi.rollout_length=5 romi.xi=0.1 --jobs 4
  {PROGRAM} --runs log/hopper-medium-v2 --out report      only report on runs there are
  {PROGRAM} --runs log/hopper-medium-v2 --suite robust-small-v1 --episodes 10
  {PROGRAM} --suite small-v1 --algos romi mopo   a benchmark's tasks, data and schedule

The table (mean of the last ten evaluations ± std over seeds, interquartile mean with a bootstrap
interval from three seeds on, steps/s, wall time, mean Q, the data's own score) is printed and
written as Markdown, CSV and JSON beside the figure. Runs on other data, another data source or
another simulator are never mixed: the differences are listed instead. Exit status: 0 done, 2 wrong
input or a run that failed, 3 a run diverged (the table says which), 75 stopped by SIGTERM or
Ctrl-C, with the runs saved."""

CHECK = """\
Say of finished runs of the benchmark small-v1 (docs/small_v1.md) whether their scores lie in the
bands of their tasks and algorithms. Exit status: 0 all inside, 1 one outside, 2 one that is no
finished run of it, with the first setting that differs."""

BANDS = "bands of small-v1 to take, see --write-bands of compare; default: the package's own"


def main(words: Sequence[str]) -> int:
    """Compare; returns the exit status.

    Raises:
        UserError: Something asked for is wrong, runs do not belong together, or a run failed.
        TrainingInterrupted: A signal; what ran has saved.
    """
    chosen, rest = _parser().parse_known_args(words)
    from offlinerlkit_romi.experiment.compare.perform import perform  # imports torch

    return perform(chosen, rest, shlex.join([*PROGRAM.split(), *words]))


def check(words: Sequence[str]) -> int:
    """Hold runs against their bands; returns the exit status.

    Raises:
        UserError: A run that is none of the benchmark's.
    """
    parser = Parser(prog="offlinerlkit-romi check", description=CHECK)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="its folder, or a folder of runs")
    parser.add_argument("--bands", metavar="FILE", help=BANDS)
    chosen = parser.parse_args(words)
    from offlinerlkit_romi.experiment.compare.bands import check  # imports torch

    return check(chosen.runs, chosen.bands)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --algos ALGO ... --task TASK [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        lenient=True,
    )
    add = parser.add_argument
    add("--algos", nargs="+", metavar="ALGO", help="algorithms, in the order of the table")
    add("--task", metavar="TASK", help="task by its D4RL name; your own --data bring theirs")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="ALGO.NAME=VALUE",
        help="a setting of one algorithm; several values with commas",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at a time, each with one CPU thread (--threads); default: CPU cores, 1 on CUDA",
    )
    add(
        "--suite",
        choices=list(SUITES),
        help="small-v1: train on the tasks of this benchmark by its preset, every algorithm unless "
        "--algos names some, and set the scores beside their bands (docs/small_v1.md); robust-...: "
        "play the finished runs under this suite of shifts too (docs/robustness.md)",
    )
    add("--bands", metavar="FILE", help=BANDS)
    add("--write-bands", metavar="FILE", help="write the bands that the runs of small-v1 make")
    add("--episodes", type=int, metavar="N", help="of each condition of robust-...; default: 20")
    add("--attack-critic", metavar="RUN", help="whose critics min_q of robust-... attacks with")
    add("--out", metavar="DIR", help="where the report goes; default: <log root>/<task>/compare")
    add(
        "--runs", nargs="+", metavar="DIR", help="report on these runs, or all below; train nothing"
    )
    return parser
