"""The runs a comparison needs: their settings, and which of them there are already."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinerlkit_romi.errors import UserError, unknown_name
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import parse, takes
from offlinerlkit_romi.experiment.compare.processes import Command
from offlinerlkit_romi.experiment.compare.records import RunRecord, read_record
from offlinerlkit_romi.experiment.config import flag
from offlinerlkit_romi.experiment.resolve import COMMAND_LINE, Resolved
from offlinerlkit_romi.experiment.resume import Runs
from offlinerlkit_romi.system.machine import usable_cores

# each run has its own; `--set` may give one algorithm a name
_NOT_SHARED = ("seed", "seeds", "resume", "algo-name")
# what to take where there are several runs of one configuration
BEST_FIRST = ("finished", "diverged", "running", "unfinished")


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        words: What follows `train` on its command line.
        resolved: The same as a configuration.
    """

    words: tuple[str, ...]
    resolved: Resolved

    @property
    def label(self) -> str:
        """The row it belongs to."""
        return self.resolved.config.algo_name or self.resolved.algo

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.resolved.config.seed

    @property
    def name(self) -> str:
        """As it is spoken of."""
        return f"{self.label} seed {self.seed}"

    def find(self, runs: Runs) -> RunRecord | None:
        """The run there is already; a finished one before all others, then the newest."""
        found = [read_record(run) for run in runs.of(self.resolved)]
        return min(found, key=lambda record: BEST_FIRST.index(record.status), default=None)

    def command(self, earlier: RunRecord | None, log: Path) -> Command:
        """The command that makes the run, or goes on with it."""
        run = None if earlier is None else earlier.run
        resume = [] if run is None else ["--resume", str(run.path)]
        algo, *words = self.words
        program = [sys.executable, "-m", "offlinerlkit_romi.cli", "train", ALGORITHMS.spelled(algo)]
        argv = [*program, *words, *resume]
        return Command(self.name, argv, log, self.resolved.config.threads)


def make_jobs(
    algos: Sequence[str], seeds: Sequence[int], shared: Sequence[str], own: Mapping[str, list[str]]
) -> list[Job]:
    """The runs of every algorithm on every seed.

    Args:
        algos: Names of algorithms.
        seeds: Seeds.
        shared: Training flags for all, each given to the algorithms that have it.
        own: Training flags for one algorithm, by its name.

    Raises:
        UserError: An unknown algorithm or flag, a wrong value, or something twice.
    """
    for what, items in (("--algos", algos), ("--seeds", seeds)):
        twice = [str(item) for item in dict.fromkeys(items) if list(items).count(item) > 1]
        if twice:
            raise UserError(f"{what} names {', '.join(twice)} more than once")
    for algo in [*algos, *own]:
        if algo not in algos or algo not in ALGORITHMS:
            known = algos if algo in own else ALGORITHMS
            raise UserError(unknown_name("algorithm", algo, known))
    groups = split_flags(shared)
    _refuse_unknown(groups, algos)
    return [
        job
        for algo in algos
        for job in jobs_of(algo, seeds, [*_of(algo, groups), *own.get(algo, [])])
    ]


def split_flags(words: Sequence[str]) -> list[list[str]]:
    """Each flag with its values.

    Raises:
        UserError: A word before the first flag, or a flag that is not for all.
    """
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            groups.append([word])
        elif groups:
            groups[-1].append(word)
        else:
            raise UserError(f"{word!r} is no flag of compare; see `compare --help`")
    for group in groups:
        name = group[0][2:].partition("=")[0].replace("_", "-")
        if name in _NOT_SHARED:
            raise UserError(
                f"--{name} is not for all runs: use --seeds; runs that stopped are gone on with "
                "by themselves; --set romi.algo_name=NAME names one algorithm's"
            )
    return groups


def own_flags(assignments: Sequence[str]) -> dict[str, list[str]]:
    """`algo.name=value` as flags by algorithm; commas separate several values.

    Raises:
        UserError: It is written otherwise.
    """
    flags: dict[str, list[str]] = {}
    for assignment in assignments:
        left, equals, value = assignment.partition("=")
        algo, dot, name = left.partition(".")
        if not (algo and dot and name and equals):
            raise UserError(f"--set {assignment}: write algorithm.setting=value")
        if name.replace("_", "-") in _NOT_SHARED[:-1]:
            raise UserError(f"--set {assignment}: use --seeds")
        flags.setdefault(algo, []).extend([flag(name), *value.split(",")])
    return flags


def default_workers(jobs: Sequence[Job]) -> int:
    """Runs at a time: one per CPU core this process may use, one on a CUDA device."""
    if jobs and on_cuda(jobs[0].resolved):
        return 1
    return usable_cores()


def jobs_of(algo: str, seeds: Sequence[int], words: list[str]) -> list[Job]:
    """The runs of one algorithm on every seed, by what follows `train <algo>`.

    Raises:
        UserError: An unknown flag, or a wrong value.
    """
    words = [*words, *_beside_others(parse(algo, words))]
    resolved = parse(algo, words)
    return [
        Job((algo, *words, "--seed", str(seed)), resolved.override({"seed": seed}, COMMAND_LINE))
        for seed in seeds
    ]


def _beside_others(resolved: Resolved) -> list[str]:
    """What keeps a run from taking the cores of the others, as far as it is not told."""
    told = {name for name, source in resolved.sources.items() if source == COMMAND_LINE}
    words = [] if "threads" in told else ["--threads", "1"]
    return words if "eval_async" in told or on_cuda(resolved) else [*words, "--no-eval-async"]


def on_cuda(resolved: Resolved) -> bool:
    """Whether a run will take a CUDA device."""
    import torch

    wish = resolved.config.device
    return wish.startswith("cuda") or (wish == "auto" and torch.cuda.is_available())


def _of(algo: str, groups: Sequence[Sequence[str]]) -> list[str]:
    return [word for group in groups if takes(algo, group[0]) for word in group]


def _refuse_unknown(groups: Sequence[Sequence[str]], algos: Sequence[str]) -> None:
    """A flag that none of the algorithms has is a mistake."""
    for group in groups:
        if not any(takes(algo, group[0]) for algo in algos):
            parse(algos[0], group)  # raises, with the nearest names
