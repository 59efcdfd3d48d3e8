"""The arguments of `sweep ...`."""

from __future__ import annotations

from collections.abc import Sequence

from offlinerlkit_romi.arguments import Parser

PROGRAM = "offlinerlkit-romi sweep"
DESCRIPTION = """\
Train tasks x algorithms x seeds x any option, as a file says (docs/sweeps.md). Finished runs are
used as they are, runs that stopped are gone on with from their exact state, missing ones are made;
the same command can be given again at any time. Each run is an ordinary run folder."""
EXAMPLES = f"""\
examples:
  {PROGRAM} FILE.yaml                             Ray on this machine, or processes without Ray
  {PROGRAM} FILE.yaml --on auto                   the Ray cluster this machine is part of
  {PROGRAM} FILE.yaml --on 10.0.0.1:6379          the cluster whose head has that address
  {PROGRAM} FILE.yaml --dry-run                   how far it is; trains nothing

a file:
  tasks: [hopper-medium-v2, walker2d-medium-v2]
  algorithms: [mopo, romi]
  seeds: [0, 1, 2]
  options: {{preset: quick}}
  axes: {{romi.xi: [0.05, 0.1]}}

Exit status: 0 done, 2 wrong input or a trial that failed, 3 a run diverged (the table says which),
75 stopped by SIGTERM or Ctrl-C."""


def main(words: Sequence[str]) -> int:
    """Carry out a sweep; returns the exit status.

    Raises:
        UserError: The file makes no sense, or a trial failed.
        TrainingInterrupted: A signal.
    """
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE.yaml", help="what to run")
    add(
        "--on",
        metavar="WHERE",
        help="ray: Ray on this machine; local: processes of this machine, without Ray; auto or an "
        "address: that Ray cluster; default: ray where it is installed, else local",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="local: trials at a time; default: what there is room for",
    )
    add("--dry-run", action="store_true", help="only say what there is and what is missing")
    chosen = parser.parse_args(words)
    from offlinerlkit_romi.experiment.sweep.perform import perform  # imports torch

    return perform(chosen.file, chosen.on, chosen.jobs, chosen.dry_run)
