"""How much of a policy's score survives where sensors, actuators or the simulator differ."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from offlinerlkit_romi.envs import Evaluator
from offlinerlkit_romi.envs.shifts import (
    ACTUATION,
    ATTACKS,
    CLEAN,
    DYNAMICS,
    FAULTS,
    PARAMETERS,
    SENSORS,
    SUITES,
    block_of,
    name_of,
    needs_critics,
    parse,
)
from offlinerlkit_romi.errors import UserError, unknown_name
from offlinerlkit_romi.system.files import write_text
from offlinerlkit_romi.system.machine import versions
from offlinerlkit_romi.utils.plotter import AXES, Panel, plot_panels
from offlinerlkit_romi.utils.text import csv_table, number, plus_minus

EPISODES = 20  # of each condition of a suite
OWN = "own"  # critics
TENTH = 0.1
LEAST = 10.0  # a drop in per cent of a smaller clean score would say nothing
NOTES = (
    "mean over conditions and runs, ± sample standard deviation over runs (training seeds), never "
    "over episodes; scores are not clipped",
    "drop: 1 - shifted / clean, where the clean score is above 10; a policy that is bad when clean "
    "has little to lose: never rank by the drop alone",
    "worst tenth: mean of the worst tenth of a condition's episodes",
)
BLOCKS = (CLEAN, SENSORS, ATTACKS, FAULTS, DYNAMICS, *PARAMETERS, ACTUATION, "together")


@dataclass(frozen=True)
class Outcome:
    """What a policy came to under one condition: a row of `result/robustness.csv`.

    Attributes:
        condition: As it is written, see `envs.shifts`.
        kind: Of its shift; of several, joined by `+`.
        scale: Likewise.
        unit: Likewise.
        block: What it belongs to.
        episodes: Number of episodes.
        seed: Base of their seeds.
        what: "score" or "return": what the following are.
        mean: Over the episodes.
        std: Over the episodes.
        min: The worst episode.
        cvar10: Mean of the worst tenth of the episodes.
        length: Mean number of steps.
        critic: Whose critics the attack used: "own" or a run; empty where it used none.
        weights: The policy's file, the beginning of its SHA-256.
        gymnasium: Version.
        mujoco: Version.
    """

    condition: str
    kind: str
    scale: str
    unit: str
    block: str
    episodes: int
    seed: int
    what: str
    mean: float
    std: float
    min: float
    cvar10: float
    length: float
    critic: str = ""
    weights: str = ""
    gymnasium: str = ""
    mujoco: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What it depends on; the later of two with one key stays."""
        of = self.what, self.critic, self.weights, self.gymnasium, self.mujoco
        return self.condition, self.episodes, self.seed, *of


Outcomes = Mapping[str, Outcome]  # of one run, by condition


def conditions_of(shifts: Iterable[str], suite: str | None) -> list[str]:
    """The conditions that are asked for, as they are written; clean first, none twice.

    Raises:
        UserError: No such suite, or a shift that is none.
    """
    if suite is not None and suite not in SUITES:
        raise UserError(unknown_name("suite", suite, SUITES))
    wanted = (CLEAN, *(SUITES[suite] if suite else ()), *shifts)
    return list(dict.fromkeys(name_of(parse(condition)) for condition in wanted))


def play(
    evaluator: Evaluator,
    policy: Any,
    conditions: Iterable[str],
    to_score: Callable[[Any], Any] | None,
    **facts: str,
) -> Iterator[Outcome]:
    """Evaluate under each condition, on episodes of the same seeds, one after the other.

    Args:
        evaluator: Its next call's episodes are played.
        policy: In evaluation mode.
        conditions: As they are written.
        to_score: Returns (n,) to scores; None leaves returns.
        **facts: Further attributes of the outcomes; `critic` of those that have one.

    Raises:
        UserError: One of the conditions cannot be had; none is played then.
    """
    told = simulators() | facts
    worlds = {condition: evaluator.under(condition) for condition in conditions}
    for world in worlds.values():
        world.attacker(policy)
    for condition, world in worlds.items():
        yield _play(world, policy, condition, to_score, told)


def _play(
    evaluator: Evaluator,
    policy: Any,
    condition: str,
    to_score: Callable[[Any], Any] | None,
    facts: Mapping[str, Any],
) -> Outcome:
    shifts, result = parse(condition), evaluator(policy)
    scores = result.returns if to_score is None else np.asarray(to_score(result.returns))
    found = Outcome(
        condition=condition,
        kind="+".join(shift.kind for shift in shifts),
        scale="+".join(f"{shift.scale:g}" for shift in shifts),
        unit="+".join(shift.unit for shift in shifts),
        block=block_of(shifts),
        episodes=evaluator.settings.episodes,
        seed=evaluator.settings.seed,
        what="score" if to_score else "return",
        mean=float(scores.mean()),
        std=float(scores.std()),
        min=float(scores.min()),
        cvar10=float(np.sort(scores)[: math.ceil(TENTH * len(scores))].mean()),
        length=float(result.lengths.mean()),
        **facts,
    )
    return found if needs_critics(shifts) else replace(found, critic="")


def merged(earlier: Iterable[Outcome], now: Iterable[Outcome]) -> list[Outcome]:
    """All outcomes of the present weights, the later of two for one key."""
    now = list(now)
    kept = [old for old in earlier if old.weights == now[0].weights]
    return list({outcome.key: outcome for outcome in (*kept, *now)}.values())


def keep_outcome(path: Path, outcome: Outcome) -> None:
    """Add an outcome to those of its weights in a file."""
    write_outcomes(path, merged(read_outcomes(path), [outcome]))


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write a row per outcome, of which there are some."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_table([asdict(outcome) for outcome in outcomes]))


def read_outcomes(path: Path) -> list[Outcome]:
    """What `write_outcomes` wrote; nothing where there is no such file.

    Raises:
        UserError: It is damaged.
    """
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Outcome(
                    **{f.name: kinds.get(str(f.type), str)(row[f.name]) for f in fields(Outcome)}
                )
                for row in csv.DictReader(file)
            ]
    except OSError:
        return []
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): move it away and evaluate again") from error


class Block(NamedTuple):
    """What the runs of one algorithm came to in one block of conditions, NaN where unknown.

    Attributes:
        block: Its title; a parameter of the simulator stands below "dynamics".
        label: The algorithm.
        runs: Number of runs (training seeds).
        conditions: Number of conditions.
        mean: Mean over conditions and runs.
        std: Sample standard deviation over runs of their means.
        drop: 100 (1 - mean / clean), mean over runs; NaN unless the clean score is above 10.
        worst: The condition of the lowest mean over runs.
        worst_mean: That mean.
        tail: Mean over conditions and runs of the worst tenth of the episodes.
    """

    block: str
    label: str
    runs: int
    conditions: int
    mean: float
    std: float
    drop: float
    worst: str
    worst_mean: float
    tail: float


def blocks_of(runs: Mapping[str, Sequence[Outcomes]]) -> list[Block]:
    """One per block and algorithm, block by block.

    Args:
        runs: Of each algorithm its runs, all under the same conditions.
    """
    first = next(iter(runs.values()))[0]
    found = []
    for block in BLOCKS:
        names = [name for name, outcome in first.items() if block in (outcome.block, outcome.kind)]
        if names and (block not in PARAMETERS or _several(first, block)):
            found += [_block(block, label, group, names) for label, group in runs.items()]
    return found


def _several(first: Outcomes, parameter: str) -> bool:
    """Whether a parameter of the simulator is not the only one."""
    return any(x.block == DYNAMICS and x.kind != parameter for x in first.values())


def _block(block: str, label: str, runs: Sequence[Outcomes], names: Sequence[str]) -> Block:
    means = np.array([[run[name].mean for name in names] for run in runs])  # (R, C)
    tails = np.array([[run[name].cvar10 for name in names] for run in runs])
    clean = np.array([run[CLEAN].mean for run in runs])
    told = block != CLEAN and next(iter(runs[0].values())).what == "score"
    drops = 100 * (1 - means.mean(1) / clean) if told and (clean > LEAST).all() else math.nan
    worst = int(means.mean(0).argmin())
    return Block(
        block,
        label,
        len(runs),
        len(names),
        float(means.mean()),
        float(means.mean(1).std(ddof=1)) if len(runs) > 1 else math.nan,
        float(np.mean(drops)),
        names[worst],
        float(means.mean(0)[worst]),
        float(tails.mean()),
    )


def block_cells(blocks: Sequence[Block]) -> list[list[str]]:
    """A table's lines; the algorithm is told where there are several."""
    several = len({block.label for block in blocks}) > 1 or blocks[0].runs > 1
    head = ["block", *(["algorithm", "runs"] if several else []), "conditions", "mean"]
    return [
        [*head, "drop %", "worst condition", "its mean", "worst tenth"],
        *[
            [
                f"  {x.block}" if x.block in PARAMETERS else x.block,
                *([x.label, str(x.runs)] if several else []),
                str(x.conditions),
                plus_minus(x.mean, x.std),
                number(x.drop, ".1f"),
                *(("-", "-") if x.block == CLEAN else (x.worst, f"{x.worst_mean:.1f}")),
                f"{x.tail:.1f}",
            ]
            for x in blocks
        ],
    ]


def condition_cells(outcomes: Iterable[Outcome]) -> list[list[str]]:
    """A table's lines, one per condition."""
    head = ["condition", "mean", "std", "min", "worst tenth", "length"]
    return [
        head,
        *[
            [
                x.condition,
                *(f"{y:.1f}" for y in (x.mean, x.std, x.min, x.cvar10)),
                f"{x.length:.0f}",
            ]
            for x in outcomes
        ],
    ]


def simulators() -> dict[str, str]:
    """Versions of what plays, by the attributes of an outcome."""
    told = versions()
    return {name: told[name] or "" for name in ("gymnasium", "mujoco")}


def draw(path: Path, runs: Mapping[str, Sequence[Outcomes]], title: str) -> None:
    """Score against scale, a picture per kind and unit."""
    what = next(iter(runs.values()))[0][CLEAN].what
    plot_panels(path, panels_of(runs), title=title, y_label=AXES[what])


def panels_of(runs: Mapping[str, Sequence[Outcomes]]) -> dict[str, Panel]:
    """Score over scale of each algorithm, by kind and unit; the band is the spread.

    It is that over training seeds (none of a single run), of one run alone that over episodes.
    """
    first = next(iter(runs.values()))[0]
    alone = [shifts[0] for name in first if len(shifts := parse(name)) == 1]
    kinds = {f"{one.kind} [{one.unit}]": one for one in alone}
    return {
        title: {label: _curve(group, one, len(runs) == 1) for label, group in runs.items()}
        for title, one in kinds.items()
    }


def _curve(runs: Sequence[Outcomes], like: Any, alone: bool) -> tuple[Any, Any, Any]:
    """Scales, means and spreads of the conditions that differ from one by the scale alone."""
    points = {like.neutral: CLEAN}
    for name in runs[0]:
        shifts = parse(name)
        if len(shifts) == 1 and (shifts[0].kind, shifts[0].unit) == (like.kind, like.unit):
            points[shifts[0].scale] = name
    x = sorted(points)
    means = np.array([[run[points[scale]].mean for scale in x] for run in runs])
    within = np.array([runs[0][points[scale]].std for scale in x]) * alone
    return np.array(x), means.mean(0), means.std(0, ddof=1) if len(runs) > 1 else within
