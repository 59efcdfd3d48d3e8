# ruff: noqa: T201
"""`offlinerlkit-romi bench`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from offlinerlkit_romi.errors import UserError

EPILOG = """\
Every way of doing a piece is warmed up and then timed in turn (A B A B ...), so that what else the
machine does meets them all; the figures are medians. With one thread on a CPU the headline is
processor time, which other processes disturb least; otherwise it is the clock. Both are in --out.

examples:
  offlinerlkit-romi bench --quick
  offlinerlkit-romi bench --against ~/OfflineRL-Kit --against ~/ROMI --out bench.json
  offlinerlkit-romi bench --pieces "policy step" --algos iql td3bc --task halfcheetah-medium-v2
  offlinerlkit-romi bench --table bench.json
"""


class _Parser(argparse.ArgumentParser):
    """argparse with its complaints in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = _Parser(
        prog="offlinerlkit-romi bench",
        description="Time the pieces of training on random data of a task's shapes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="of this package's float32 products; auto: the fastest that is as exact",
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
    top.add_argument("--repeats", type=int, help="samples per piece (default: 15)")
    top.add_argument("--steps", type=int, help="updates per sample (default: 10)")
    top.add_argument(
        "--both-precisions",
        action="store_true",
        help="time this package's pieces at full matmul precision as well, where auto is another",
    )
    top.add_argument("--quick", action="store_true", help="few and small: to see that it runs")
    top.add_argument("--out", type=Path, metavar="FILE", help="write the results there as JSON")
    top.add_argument("--table", type=Path, metavar="FILE", help="only show an earlier --out")
    return top


def main(argv: Sequence[str]) -> int:
    """Run `bench`.

    Raises:
        UserError: bad input; nothing has been timed then.
        SystemExit: `--help`.
    """
    chosen = parser().parse_args(argv)
    from offlinerlkit_romi.bench.report import tables

    if chosen.table is not None:
        print(tables(_read(chosen.table)))
        return 0
    result = run(chosen, _public(argv))
    print("\n" + tables(result))
    if chosen.out is not None:
        from offlinerlkit_romi.engine import write_json

        write_json(chosen.out, result)
        print(f"\nwritten: {chosen.out}")
    return 0


def run(chosen: argparse.Namespace, argv: Sequence[str], **sizes: Any) -> dict[str, Any]:
    """Time what was asked for.

    Args:
        chosen: the command's arguments.
        argv: recorded.
        **sizes: fields of `Workload` that tests make smaller.
    """
    import torch

    from offlinerlkit_romi.bench.checkout import Checkout
    from offlinerlkit_romi.bench.measure import peak_gflops
    from offlinerlkit_romi.bench.pieces import FULL_PRECISION, PIECES, Piece, time_pieces
    from offlinerlkit_romi.bench.report import load_average, rows_of
    from offlinerlkit_romi.bench.workload import Workload
    from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
    from offlinerlkit_romi.envs import get_task
    from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
    from offlinerlkit_romi.experiment.input_checks import resolve_device
    from offlinerlkit_romi.experiment.manifest import machine, versions

    names = _chosen("piece", chosen.pieces, PIECES)
    algos = _chosen("algorithm", chosen.algos, list(ALGORITHMS))
    device, task = resolve_device(chosen.device), get_task(chosen.task)
    checkouts = [Checkout(path) for path in chosen.against]
    _check_numbers(chosen)
    _check_out(chosen.out)
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    precision = choose_matmul_precision(chosen.matmul_precision)
    workload = Workload(task, device, precision)
    workload = workload.quick() if chosen.quick else workload
    workload = replace(workload, **sizes)
    asked = {"repeats": chosen.repeats, "steps": chosen.steps}
    asked = {name: value for name, value in asked.items() if value is not None}
    workload = replace(workload, both_precisions=chosen.both_precisions, **asked)
    before = load_average()

    def tell(piece: Piece) -> None:
        times = ", ".join(f"{t.work.label} {t.cpu_ms:.4g} ms" for t in piece.timings)
        print(f"{piece.name} {piece.algo}".strip() + f": {times}", file=sys.stderr)

    pieces = time_pieces(workload, checkouts, names, algos, tell)
    settings = dict.fromkeys((precision, FULL_PRECISION if checkouts else precision))
    return {
        "command": ["offlinerlkit-romi", "bench", *argv],
        "task": task.name,
        "threads": chosen.threads,
        "quick": chosen.quick,
        "headline": "cpu" if device.type == "cpu" and chosen.threads == 1 else "wall",
        "machine": machine(device),
        "versions": versions(),
        "load_average": {"before": before, "after": load_average()},
        "against": {x.label: {"commit": x.commit()} for x in checkouts},
        "peak_gflops": {name: round(peak_gflops(name, device), 1) for name in settings},
        "sizes": {
            name: getattr(workload, name)
            for name in workload.__dataclass_fields__
            if name not in ("task", "device", "precision", "overrides")
        },
        "rows": rows_of(pieces),
    }


def _chosen(what: str, asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    from offlinerlkit_romi.experiment.resolve import unknown_name

    for name in asked or ():
        if name not in known:
            raise UserError(unknown_name(what, name, known))
    return [name for name in known if asked is None or name in asked]


def _check_numbers(chosen: argparse.Namespace) -> None:
    for name in ("threads", "repeats", "steps"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}: it must be 1 or more")


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
