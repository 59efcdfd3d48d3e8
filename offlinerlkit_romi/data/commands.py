# ruff: noqa: T201
"""`offlinerlkit-romi data list|fetch|generate|info|convert|doctor|train-behaviour`."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.data.benchmarks import ORIGINS, origin_of
from offlinerlkit_romi.data.card import refuse_facts
from offlinerlkit_romi.data.doctor.command import add_doctor
from offlinerlkit_romi.data.fact_options import add_bounds, add_facts, facts_of
from offlinerlkit_romi.data.formats import KINDS
from offlinerlkit_romi.data.load import Source, load, looks_like_data, read_dataset
from offlinerlkit_romi.data.rows import Episodes
from offlinerlkit_romi.data.user import load_own
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.recipes import generate, generated_folder
from offlinerlkit_romi.system.files import written_whole

if TYPE_CHECKING:
    from offlinerlkit_romi.data.dataset import Dataset
    from offlinerlkit_romi.envs.tasks import Task

BINS = 40
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
SEVERAL = "such as hopper-medium-v2; several, or all"


def main(argv: list[str]) -> int:
    """Run one data command.

    Args:
        argv: What follows `offlinerlkit-romi data`.

    Returns:
        Exit status: 0, or 1 if `doctor` found errors.

    Raises:
        UserError: Bad input; the caller prints it and exits with status 2.
        SystemExit: `--help`, or arguments that argparse refuses.
    """
    arguments = parser().parse_args(argv)
    return arguments.run(arguments) or 0


def parser() -> Parser:
    """The command line of all data commands."""
    top = Parser(
        prog="offlinerlkit-romi data",
        description="Find, download, generate and inspect the data sets of all tasks.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="all tasks, and which data are on this machine")
    listing.set_defaults(run=_list)

    fetch = commands.add_parser("fetch", help="download tasks' own files (resumed, verified)")
    _add_tasks(fetch, "*", SEVERAL)
    fetch.add_argument("--force", action="store_true", help="download again what is cached")
    fetch.set_defaults(run=_fetch)

    make = commands.add_parser("generate", help="simulate data sets on this machine")
    _add_tasks(make, "*", SEVERAL)
    _add_generation(make)
    make.add_argument("--force", action="store_true", help="simulate again what is cached")
    make.set_defaults(run=_generate)

    info = commands.add_parser("info", help="shapes, ranges, returns, source and sha256")
    _add_tasks(info, "?", "such as hopper-medium-v2; or data of your own, as --data takes them")
    info.add_argument(
        "--data",
        default="auto",
        metavar="SOURCE",
        help=f"auto, d4rl, neorl, generated, or {KINDS} (default: auto)",
    )
    add_facts(info)
    info.add_argument(
        "--histogram", type=Path, metavar="PNG", help="draw returns and lengths of the episodes"
    )
    _add_generation(info)
    info.set_defaults(run=_info)

    change = commands.add_parser(
        "convert",
        help="write a data set in another format",
        description=(
            "Write the rows of SRC as another format: from HDF5 and npz files with D4RL's keys to "
            "each other every array is kept bit for bit; what cannot be carried is said."
        ),
    )
    change.add_argument("source", metavar="SRC", help=KINDS)
    add_bounds(change)
    change.add_argument("--to", required=True, metavar="FORMAT", help="d4rl (HDF5), npz or minari")
    change.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="file to write; an id for Minari"
    )
    change.set_defaults(run=_convert)
    add_doctor(commands)
    _add_mix(commands)

    train = commands.add_parser(
        "train-behaviour",
        help="train a behaviour policy with SAC (extra: behaviour)",
        description="Train SAC and save its actor every --every steps as NAME-<thousands>k.npz.",
    )
    train.add_argument("--env", required=True, help="halfcheetah, hopper or walker2d")
    train.add_argument("--steps", type=int, default=300_000, help="default: %(default)s")
    train.add_argument("--every", type=int, default=20_000, help="default: %(default)s")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument("--out", type=Path, default=Path("behaviour"), help="default: %(default)s")
    train.set_defaults(run=_train_behaviour)
    return top


def _add_mix(commands: Any) -> None:
    blend = commands.add_parser(
        "mix",
        help="write rows of several sources of one simulator into one file",
        description=(
            "Write whole episodes of several sources one behind the other; the file tells of each "
            "part its source, sha256 and rows."
        ),
    )
    blend.add_argument("sources", nargs="+", metavar="SRC", help=KINDS)
    blend.add_argument(
        "--share",
        nargs="+",
        type=float,
        default=[],
        metavar="X",
        help="of the mix, one for each source, such as 0.9 0.1 (default: all rows of each)",
    )
    blend.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    blend.add_argument("-o", "--output", required=True, metavar="OUT", help=".hdf5 or .npz file")
    blend.set_defaults(run=_mix)


def _add_tasks(command: argparse.ArgumentParser, count: str, about: str) -> None:
    """One task or several, by position or after `--task`."""
    by_position: dict[str, Any] = {"nargs": count, "default": argparse.SUPPRESS, "help": about}
    command.add_argument("task", metavar="TASK", **by_position)
    by_name: dict[str, Any] = {"nargs": "+"} if count == "*" else {}
    command.add_argument("--task", metavar="TASK", help="the same by name", **by_name)


def _given(arguments: argparse.Namespace) -> Any:
    if not arguments.task:
        raise UserError("TASK is missing: `offlinerlkit-romi data list` shows them all")
    return arguments.task


def _add_generation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--transitions", type=int, default=200_000, help="rows to generate (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, help="of generation (default: %(default)s)")
    command.add_argument("--jobs", type=int, help="processes (default: one per core)")


def _chosen(names: list[str]) -> "list[Task]":
    from offlinerlkit_romi.envs.tasks import get_task, task_names

    return [get_task(name) for name in (task_names() if names == ["all"] else names)]


def _list(arguments: argparse.Namespace) -> None:
    del arguments
    print(f"{'task':30} {'its own file':>12}  {'cached':7} generated here")
    for task in _chosen(["all"]):
        archive = origin_of(task).archive
        size = archive.remote_of(task.name).size
        known = "-" if size is None else f"{size / 1e6:.0f} MB"
        cached = "yes" if archive.cached_path(task.name).exists() else "no"
        print(f"{task.name:30} {known:>12}  {cached:7} {', '.join(_made(task)) or '-'}")
    kept = {origin.title: origin.archive.folder() for origin in ORIGINS.values()}
    places = ", ".join(f"{title}'s files are kept in {folder}" for title, folder in kept.items())
    print(f"{places}, generated ones in {generated_folder()}")


def _made(task: "Task") -> list[str]:
    name = re.compile(rf"generated-{re.escape(task.name)}-\d+-seed\d+-.*")
    return sorted(p.name for p in generated_folder().glob("generated-*") if name.match(p.name))


def _fetch(arguments: argparse.Namespace) -> None:
    for task in _chosen(_given(arguments)):
        archive = origin_of(task).archive
        path, sha256 = archive.fetch(task.name, force=arguments.force)
        print(f"{task.name}: {path} (sha256 {sha256}; {archive.verified(task.name)})")


def _generate(arguments: argparse.Namespace) -> None:
    for task in _chosen(_given(arguments)):
        path = generate(
            task.name,
            arguments.transitions,
            arguments.seed,
            jobs=arguments.jobs,
            force=arguments.force,
        )
        print(describe(read_dataset(path, task, "generated")))


def _info(arguments: argparse.Namespace) -> None:
    dataset = _loaded(arguments)
    print(describe(dataset))
    if arguments.histogram is not None and dataset.complete is not None:
        _draw_histogram(arguments.histogram, dataset.complete, dataset.info.task)
        print(f"histogram: {arguments.histogram}")


def _loaded(arguments: argparse.Namespace) -> "Dataset":
    source, facts = arguments.data, facts_of(arguments)
    task = arguments.task or None
    if task and source == "auto" and looks_like_data(task):
        source, task = task, None
    if (card := Source(source, task).card) is not None:
        return load_own(card, guess=True, name=task, **facts)
    task = _given(arguments)
    refuse_facts(facts, task)
    return load(
        task,
        source,
        transitions=arguments.transitions,
        seed=arguments.seed,
        jobs=arguments.jobs,
        notify=lambda line: print(line) if sys.stdout.isatty() else None,
    )


def _convert(arguments: argparse.Namespace) -> None:
    from offlinerlkit_romi.data.convert import convert

    told = convert(arguments.source, arguments.to, arguments.out, arguments.action_bounds)
    print("\n".join([f"{arguments.source} -> {arguments.out}", *(f"note: {t}" for t in told)]))


def _mix(arguments: argparse.Namespace) -> None:
    from offlinerlkit_romi.data.mix import mix

    told = mix(arguments.sources, arguments.output, arguments.share, arguments.seed)
    print("\n".join([arguments.output, *(f"note: {t}" for t in told)]))


def describe(dataset: "Dataset") -> str:
    """Several lines: where transitions come from, their shapes, ranges, episodes and returns."""
    info = dataset.info
    lines = [
        f"{info.task}: {len(dataset)} transitions, source {info.source}",
        f"  file       {info.path}",
        f"  sha256     {info.sha256}",
        f"  simulator  {info.env_version}",
        f"  episodes   {info.episodes} complete, mean return {info.behaviour_return:.1f}",
        *([] if dataset.complete is None else _episodes_in_words(dataset.complete)),
        f"  terminals  {int(dataset.terminals.sum())}",
    ]
    columns = dataset.as_dict()
    if isinstance(dataset.task, CustomTask):
        columns["actions"] = dataset.task.to_user(dataset.actions)
    for key, values in columns.items():
        if values.dtype != np.bool_:
            low, high = float(values.min()), float(values.max())
            lines.append(f"  {key:18} {values.shape!s:14} from {low:.4g} to {high:.4g}")
    return "\n".join([*lines, *(f"  note: {note}" for note in info.notes)])


def _episodes_in_words(episodes: Episodes) -> list[str]:
    """Minimum, quartiles and maximum of the returns and the lengths of the complete episodes."""
    if not len(episodes.returns):
        return ["  no complete episode: no returns"]
    return [
        f"  {name:10} min {low:.1f}, quartiles {q1:.1f} {median:.1f} {q3:.1f}, max {high:.1f}"
        for name, values in (("returns", episodes.returns), ("lengths", episodes.lengths))
        for low, q1, median, q3, high in [np.quantile(values, QUANTILES).tolist()]
    ]


def _draw_histogram(path: Path, episodes: Episodes, title: str) -> None:
    """Write a PNG with the distribution of returns and of lengths of the complete episodes.

    Raises:
        UserError: There is no complete episode, or the file cannot be written.
    """
    if not len(episodes.returns):
        raise UserError(f"{title}: no complete episode, so there is no histogram of returns")
    if path.suffix != ".png" or not path.parent.is_dir():
        raise UserError(f"--histogram {path}: give a .png file in a folder that exists")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    sides: tuple[tuple[str, NDArray[np.generic]], ...] = (
        ("undiscounted return", episodes.returns),
        ("steps", episodes.lengths),
    )
    for axes, (label, values) in zip(figure.subplots(1, 2), sides, strict=True):
        axes.hist(np.asarray(values, dtype=np.float64), bins=BINS, color="#4c72b0")
        axes.set_xlabel(label)
        axes.set_ylabel("episodes")
    figure.suptitle(f"{title}: {len(episodes.returns)} complete episodes")
    with written_whole(path, "--histogram") as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _train_behaviour(arguments: argparse.Namespace) -> None:
    from offlinerlkit_romi.standins.train_behaviour import train_behaviour

    if min(arguments.steps, arguments.every) < 1:
        raise UserError("--steps and --every must be at least 1")
    for path in train_behaviour(
        arguments.env, arguments.steps, arguments.every, arguments.seed, arguments.out
    ):
        print(str(path))
