# ruff: noqa: T201
"""The arguments of `report ...`."""

from __future__ import annotations

from collections.abc import Sequence

from offlinerlkit_romi.arguments import Parser

PROGRAM = "offlinerlkit-romi report"
DESCRIPTION = """\
Report on runs there are: one HTML page that needs nothing but a browser, figures (PNG, PDF) and
tables (Markdown, LaTeX). Nothing is trained."""
EXAMPLES = f"""\
examples:
  {PROGRAM} log                                        all runs below log/
  {PROGRAM} log/hopper-medium-v2 log/walker2d-medium-v2 --output paper

Scores (last, mean of the last ten, best as an oracle), interquartile means, performance profiles
and probabilities of improvement with stratified bootstrap intervals, published numbers beside them
where data and schedule are the same, learning curves, Q against its bound, gradient norms, weights,
model error, robustness, speed and memory. Runs on different sources of data are never put side by
side; unfinished runs are shown as such. To watch runs while they train: tensorboard --logdir log
(docs/report.md)."""


def main(words: Sequence[str]) -> int:
    """Report; returns the exit status.

    Raises:
        UserError: There is no run, one is damaged, or a package is missing.
    """
    chosen = _parser().parse_args(words)
    from offlinerlkit_romi.experiment.report.write import report  # imports torch

    page = report(**vars(chosen))
    print(f"written: {page}; beside it tables/{' and figures/' if chosen.figures else ''}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} RUNS... [--sweep DIR] [--output DIR]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("runs", nargs="*", help="run folders, or folders that hold some")
    parser.add_argument("--sweep", metavar="DIR", help="a sweep's folder: its trials are runs too")
    parser.add_argument("--output", metavar="DIR", default="report", help="where everything goes")
    parser.add_argument("--title", default="", help="the page's heading")
    parser.add_argument(
        "--no-figures",
        dest="figures",
        action="store_false",
        help="no PNG and PDF, which take longest; the page has its charts all the same",
    )
    return parser
