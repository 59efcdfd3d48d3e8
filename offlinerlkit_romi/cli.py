# ruff: noqa: T201
"""The command `offlinerlkit-romi`: train, evaluate, compare, sweep, report, data, bench."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted, UserError, unknown_name
from offlinerlkit_romi.version import __version__

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.resolve import Resolved

USAGE = """\
usage: offlinerlkit-romi <command> ...

Offline reinforcement learning: ROMI (arXiv 2603.08118), its baselines and rivals on one engine.

commands:
  train <algo> [options]   train an algorithm on a task: `train --help` lists them, and
                           `train <algo> --help` every option with its default
  evaluate <run> ...       evaluate trained policies afresh, as they trained or where sensors,
                           actuators or the simulator differ: `evaluate --help`
  export <run folder>      write a policy as one file (ONNX) that runs without this package
  enjoy <run folder>       film an episode of a policy
  select <run folder>      choose among a run's checkpoints without a simulator
  compare ...              train several algorithms side by side and report; `compare --help`
  check RUNS...            hold runs of the benchmark small-v1 against its bands; `check --help`
  sweep FILE.yaml          train tasks x algorithms x seeds x options, here or on a Ray cluster
  config show|diff ...     an algorithm's settings and their sources; `config --help`
  report RUNS...           one page, figures and tables of runs there are; `report --help`
  data ...                 find, fetch, generate and check transitions; `data --help`
  bench                    time the pieces of training on this machine; `bench --help`

options:
  --version                show the version
  -h, --help               show this

examples:
  offlinerlkit-romi train romi --task walker2d-medium-expert-v2
  offlinerlkit-romi train romi --task halfcheetah-random-v2 --preset quick
  offlinerlkit-romi train rambo --task hopper-medium-v2 --preset official --seed 1
  offlinerlkit-romi train romi --data my_plant.yaml      # your own data: docs/your_own_data.md
"""
# 75: sysexits' "try again later", for schedulers that queue a preempted run again
BAD_INPUT, DIVERGED, RESUMABLE, INTERRUPTED = 2, 3, 75, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done, or ended early by a callback. 2: the input is wrong, said in one line on stderr.
    3: training diverged. 75: stopped by SIGTERM or Ctrl-C, `--resume` goes on. 130: interrupted at
    once.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # torch is not loaded yet. Threads that spin while they wait cost a factor of 5 to 15 as soon
    # as another process wants the cores (2 cores, 2 threads, a load of 4: model fit 480 -> 33 ms)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED if isinstance(error, DivergedError) else BAD_INPUT
    except TrainingInterrupted as stop:
        print(stop, file=sys.stderr)
        return RESUMABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return 0
    except SystemExit as end:  # argparse ends this way after --help
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"offlinerlkit-romi {__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "export": _export,
        "enjoy": _enjoy,
        "compare": _main_of("experiment.compare.command"),
        "check": _main_of("experiment.compare.command", "check"),
        "select": _select,
        "sweep": _main_of("experiment.sweep.command"),
        "config": _main_of("experiment.facts"),
        "report": _main_of("experiment.report.command"),
        "data": _main_of("data.commands"),
        "bench": _main_of("bench.command"),
    }
    if words[0] not in commands:
        raise UserError(unknown_name("command", words[0], commands))
    return commands[words[0]](words[1:])


def _main_of(room: str, name: str = "main") -> Callable[[list[str]], int]:
    """A command that reads its own arguments; its module is imported when it is called."""
    return lambda words: getattr(import_module(f"offlinerlkit_romi.{room}"), name)(words)


def _train(words: list[str]) -> int:
    from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
    from offlinerlkit_romi.experiment.command_line import describe, parse, take_seeds

    if not words or words[0] in ("-h", "--help"):
        print(describe(), end="")
        return 0
    if words[0].startswith("-"):
        raise UserError(f"the algorithm comes first: train romi {' '.join(words)}")
    seeds, rest = take_seeds(words[1:])
    algo = ALGORITHMS.take(words[0])
    resolved, argv = parse(algo, rest), ["offlinerlkit-romi", "train", *words]
    if seeds is not None:
        return _train_seeds(resolved, seeds, argv)
    from offlinerlkit_romi.experiment.run import run

    run(resolved, argv)
    return 0


def _train_seeds(resolved: Resolved, seeds: list[int], argv: list[str]) -> int:
    from offlinerlkit_romi.experiment.seeds import run_seeds

    summary = run_seeds(resolved, seeds, argv)
    print(summary.table())
    for seed, error in summary.failures.items():
        print(f"error: seed {seed}: {error}", file=sys.stderr)
    if not summary.failures:
        return 0
    return DIVERGED if summary.only_diverged else BAD_INPUT


def _evaluate(words: list[str]) -> int:
    from offlinerlkit_romi.envs.shifts import SUITES

    parser = _run_parser(
        "evaluate",
        "Evaluate the policies of runs on fresh episodes of their task, as it is and under shifts "
        "of its sensors, actuators and simulator (docs/robustness.md).",
        nargs="+",
    )
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="of each condition; default: 10, 20 with a suite"
    )
    parser.add_argument("--seed", type=int, default=0, help="base of the episodes' seeds")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    _add_env(parser)
    shifted = parser.add_argument_group("shifts; written to result/robustness.csv of the run")
    shifted.add_argument(
        "--shift",
        dest="shifts",
        nargs="+",
        action="extend",
        default=[],
        metavar="KIND:SCALE[:UNIT]",
        help="conditions, each a shift or several joined by +: delta:0.1 mass:0.8+drop:0.1:5steps",
    )
    shifted.add_argument("--suite", choices=list(SUITES), help="the conditions of a suite")
    shifted.add_argument(
        "--attack-critic", metavar="RUN", help="whose critics min_q attacks with; default: its own"
    )
    chosen = vars(parser.parse_args(words))
    from offlinerlkit_romi.experiment.reload import evaluate

    for run in chosen.pop("run_dir"):
        print(evaluate(run, **chosen).table())
    return 0


def _export(words: list[str]) -> int:
    parser = _run_parser(
        "export",
        "Write a run's policy as one file that runs without this package: raw observations in, "
        "deterministic actions in the data's units out.",
    )
    parser.add_argument(
        "--format",
        default="onnx",
        choices=("onnx", "torch"),
        help="onnx, for onnxruntime; torch, for torch.export.load",
    )
    parser.add_argument(
        "--output", help="the file (default: policy.onnx or policy.pt2 beside the run's weights)"
    )
    chosen = parser.parse_args(words)
    from offlinerlkit_romi.experiment.export import export_policy

    print(export_policy(**vars(chosen)))
    return 0


def _enjoy(words: list[str]) -> int:
    parser = _run_parser(
        "enjoy",
        "Film one episode of a run's policy, off-screen: the first one that `evaluate` plays.",
    )
    parser.add_argument("--video", required=True, help="the film, a name that ends in .mp4 or .gif")
    parser.add_argument("--seed", type=int, default=0, help="base of the episode's seed")
    _add_env(parser)
    chosen = parser.parse_args(words)
    from offlinerlkit_romi.experiment.enjoy import enjoy

    print(enjoy(**vars(chosen)).table())
    return 0


def _select(words: list[str]) -> int:
    parser = Parser(
        prog="offlinerlkit-romi select",
        description="Choose among the checkpoints that a run has kept (--keep-checkpoints N) by an "
        "estimate of their value from the data alone. Where there is a simulator their scores and "
        "the rank correlation of both are told too; the choice does not look at them.",
    )
    parser.add_argument("run_dir", help="the run's folder, log/<task>/<algo>.../seed_...")
    parser.add_argument(
        "--by",
        default="fqe",
        choices=("fqe", "model"),
        help="fitted-Q evaluation, or the value in a model fitted by likelihood",
    )
    parser.add_argument(
        "--episodes", type=int, default=10, help="of a checkpoint that was never scored; 0: none"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    chosen = parser.parse_args(words)
    from offlinerlkit_romi.experiment.selection import select

    print(select(**vars(chosen)).table())
    return 0


def _add_env(parser: Parser) -> None:
    parser.add_argument(
        "--env",
        help="a run on your own data: another simulator than the run's, a Gymnasium id or "
        "module:function",
    )


def _run_parser(command: str, description: str, nargs: str | None = None) -> Parser:
    """A parser of a command on one run or, by `nargs`, several, the kit's runs included."""
    parser = Parser(prog=f"offlinerlkit-romi {command}", description=description)
    parser.add_argument(
        "run_dir",
        nargs=nargs,
        help="the run's folder, log/<task>/<algo>.../seed_..., or a file of weights in it; "
        "OfflineRL-Kit's, or a policy.pth",
    )
    kit = parser.add_argument_group("what a run of OfflineRL-Kit's may not tell")
    kit.add_argument("--algo", help="its algorithm")
    kit.add_argument("--task", help="its task")
    kit.add_argument("--data", help="its data: d4rl, generated or a file; TD3+BC and RAMBO need it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
