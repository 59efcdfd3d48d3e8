# ruff: noqa: T201
"""`offlinerlkit-romi bench`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.errors import TrainingInterrupted, UserError, unknown_name

Keep = Callable[[dict[str, Any]], None]
INTERRUPTED = 130

WIDTHS = {
    "--hidden-dims": "widths of the policy's and the weighting network's hidden layers",
    "--dynamics-hidden-dims": "widths of the dynamics model's hidden layers",
}

EPILOG = """\
Every way of doing a piece is warmed up and then timed in turn (A B A B ...), so that what else the
machine does meets them all; the figures are medians. With one thread on a CPU the headline is
processor time, which other processes disturb least; otherwise it is the clock. Both are in --out,
which is written after every piece: a run that is stopped keeps what it has timed.

examples:
  offlinerlkit-romi bench --quick
  offlinerlkit-romi bench --against ~/OfflineRL-Kit --against ~/ROMI --out bench.json
  offlinerlkit-romi bench --pieces "policy step" --algos iql td3bc --task halfcheetah-medium-v2
  offlinerlkit-romi bench --device cuda --pieces "policy step" "model update" epoch --algos romi
  offlinerlkit-romi bench --table bench.json
"""


def parser() -> Parser:
    """The command's arguments."""
    top = Parser(
        prog="offlinerlkit-romi bench",
        description="Time the pieces of training on random data of a task's shapes.",
        epilog=EPILOG,
    )
    top.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default: cpu)")
    top.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    top.add_argument(
        "--task", default="walker2d-medium-v2", help="shapes and presets (default: %(default)s)"
    )
    top.add_argument(
        "--matmul-precision",
        default="auto",
        choices=("auto", "highest", "high", "medium"),
        help="of this package's float32 products; auto: highest, or as exact and clearly faster",
    )
    top.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "eager", "graph", "compile"),
        help="timed beside eager steps: captured ones (graph; auto on CUDA), or compiled ones",
    )
    top.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="PATH",
        help="folder of an OfflineRL-Kit or ROMI checkout to time in the same run; may be repeated",
    )
    top.add_argument("--pieces", nargs="+", metavar="PIECE", help="some of them (default: all)")
    top.add_argument("--algos", nargs="+", metavar="ALGO", help="some of them (default: all)")
    for name, what in WIDTHS.items():
        top.add_argument(name, nargs="+", type=int, metavar="N", help=f"{what} (default: presets')")
    top.add_argument("--batch-size", type=int, metavar="N", help="of policy, model and fit steps")
    top.add_argument("--repeats", type=int, help="samples per piece (default: 15)")
    top.add_argument("--steps", type=int, help="updates per sample (default: 10)")
    top.add_argument(
        "--epoch-share",
        type=float,
        metavar="SHARE",
        help="of an epoch that is run to time one (default: 0.02; 1 on CUDA)",
    )
    top.add_argument(
        "--both-precisions",
        action="store_true",
        help="time this package's pieces at full matmul precision as well, where auto is another",
    )
    top.add_argument("--quick", action="store_true", help="few and small: to see that it runs")
    top.add_argument(
        "--out", type=Path, metavar="FILE", help="write the results there as JSON, piece by piece"
    )
    top.add_argument("--table", type=Path, metavar="FILE", help="only show an earlier --out")
    return top


def main(argv: Sequence[str], **sizes: Any) -> int:
    """Run `bench`.

    Args:
        argv: The words after `bench`.
        **sizes: Fields of `Workload` that shall be others.

    Raises:
        UserError: bad input; nothing has been timed then.
        SystemExit: `--help`.
    """
    chosen = parser().parse_args(argv)
    from offlinerlkit_romi.bench.report import tables

    if chosen.table is not None:
        print(tables(_read(chosen.table)))
        return 0
    kept = _Kept(chosen.out)
    try:
        result = run(chosen, _public(argv), kept, **sizes)
    except (KeyboardInterrupt, TrainingInterrupted):
        print(f"interrupted: {kept}", file=sys.stderr)
        return INTERRUPTED
    print("\n" + tables(result))
    if chosen.out is not None:
        print(f"\nwritten: {chosen.out}")
    return 0


def run(
    chosen: argparse.Namespace, argv: Sequence[str], keep: Keep = lambda _: None, **sizes: Any
) -> dict[str, Any]:
    """Time what was asked for.

    Args:
        chosen: the command's arguments.
        argv: recorded.
        keep: hears the result so far after every piece.
        **sizes: fields of `Workload` that tests make smaller.

    Raises:
        UserError: bad input; nothing has been timed then.
    """
    from offlinerlkit_romi.bench.pieces import time_all
    from offlinerlkit_romi.bench.workload import PIECES
    from offlinerlkit_romi.experiment.algorithms import ALGORITHMS

    names = _chosen("piece", chosen.pieces, PIECES)
    algos = _chosen("algorithm", chosen.algos, list(ALGORITHMS))
    _check_numbers(chosen)
    _check_out(chosen.out)
    return time_all(chosen, names, algos, argv, keep, **sizes)


class _Kept:
    """What a stopped run leaves behind: the file, written anew after every piece."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.result: dict[str, Any] | None = None

    def __call__(self, result: dict[str, Any]) -> None:
        from offlinerlkit_romi.system.files import write_json

        self.result = result
        if self.path is not None:
            write_json(self.path, result)

    def __str__(self) -> str:
        if self.result is None:
            return "no piece was timed, nothing is written"
        left = len(self.result["not_timed"])
        missing = f"{left} piece{' is' if left == 1 else 's are'} missing"
        if self.path is None:
            return f"{missing}; --out FILE keeps those that were timed"
        return f"{self.path} holds what was timed, {missing}"


def _chosen(what: str, asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    for name in asked or ():
        if name not in known:
            raise UserError(unknown_name(what, name, known))
    return [name for name in known if asked is None or name in asked]


def _check_numbers(chosen: argparse.Namespace) -> None:
    for name in (
        "threads",
        "repeats",
        "steps",
        "batch_size",
        "hidden_dims",
        "dynamics_hidden_dims",
    ):
        value = getattr(chosen, name)
        if value is not None and min(value if isinstance(value, list) else [value]) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}: it must be 1 or more")
    share = chosen.epoch_share
    if share is not None and not 0 < share <= 1:
        raise UserError(f"--epoch-share is {share}: it must be above 0 and at most 1")


def _check_out(path: Path | None) -> None:
    """Find a wrong path before minutes of timing."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UserError(f"--out {path}: give a file in a folder that exists")


def _public(argv: Sequence[str]) -> list[str]:
    """The words without the folders in which things lie on this machine."""
    return [Path(word).name if "/" in word else word for word in argv]


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--table {path}: not a file that `bench --out` wrote") from error
    if not isinstance(result, dict) or "peak_gflops" not in result:
        raise UserError(f"--table {path}: not a file that `bench --out` wrote")
    return result
