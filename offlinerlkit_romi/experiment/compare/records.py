"""What a run's folder says of it, and whether two runs may stand in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from offlinerlkit_romi.envs import normalized_score
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import flag
from offlinerlkit_romi.experiment.folder import MANIFEST, RunFolder, Status
from offlinerlkit_romi.experiment.resume import FREE
from offlinerlkit_romi.experiment.summary import Summary
from offlinerlkit_romi.policy_trainer.evaluation import SCORE_COLUMNS

# settings in which the runs of one row may differ
_OWN = FREE | {"seed", "device"}


@dataclass(frozen=True)
class RunRecord:
    """One run as a comparison sees it.

    Scores are normalised (0 random, 100 expert); for a task without such a scale they are returns.

    Attributes:
        label: The row it belongs to: its `--algo-name`, or the algorithm.
        seed: The run's seed.
        status: How it ended, or has not.
        why: A word on that for people; empty for a finished run.
        run: Its folder; None where it never got one.
        facts: What runs in one table must agree on.
        settings: Its configuration.
        rows: Its progress, a row per epoch.
        summary: What came out of it; None for a run that is not finished.
        data_score: Score of the data's own episodes.
    """

    label: str
    seed: int
    status: Status | Literal["failed"]
    why: str = ""
    run: RunFolder | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, float]] = ()
    summary: Summary | None = None
    data_score: float = math.nan

    @property
    def name(self) -> str:
        """As it is spoken of."""
        return f"{self.label} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """It went to its end."""
        return self.status == "finished"

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the run wrote of itself; empty where it never got a folder."""
        return {} if self.run is None else self.run.manifest

    @property
    def scale(self) -> str:
        """What its scores are: "score" or "return"."""
        return str(self.facts.get("scale", "score"))

    def trace(self, column: str) -> dict[int, float]:
        """A column of its progress by policy step, where it is known."""
        known = ((int(row["timestep"]), row.get(column, math.nan)) for row in self.rows)
        return {step: value for step, value in known if not math.isnan(value)}

    @cached_property
    def curve(self) -> dict[int, float]:
        """Its scores by policy step."""
        return self.trace(SCORE_COLUMNS[self.scale])

    def last(self, column: str) -> float:
        """A column's number in the last epoch, NaN where it has none."""
        return self.rows[-1].get(column, math.nan) if self.rows else math.nan

    @property
    def last_ten(self) -> float:
        """Mean score of the last ten evaluations, NaN for a run that is not finished."""
        return math.nan if self.summary is None else self.summary.result("last10_mean")

    def number(self, name: str) -> float:
        """A number of the summary, NaN where there is none."""
        return float(getattr(self.summary, name, math.nan))


def read_record(run: RunFolder) -> RunRecord:
    """Read a run's folder.

    Raises:
        UserError: It is none, or a file of it is damaged.
    """
    manifest = run.manifest
    try:
        settings = _defaults(str(manifest["algo"])) | {
            name: entry["value"] for name, entry in manifest["config"].items()
        }
        task, data = str(manifest["task"]), manifest["data"]
        label, seed = settings.get("algo_name") or manifest["algo"], int(manifest["seed"])
        behaviour = math.nan if (told := data.get("behaviour_return")) is None else float(told)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{run.path / MANIFEST} is damaged: it lacks {error}") from error
    rows, status = run.rows(), run.status
    scale = "return" if any(SCORE_COLUMNS["return"] in row for row in rows) else "score"
    evaluated = any(not math.isnan(row.get(SCORE_COLUMNS[scale], math.nan)) for row in rows)
    return RunRecord(
        label=str(label),
        seed=seed,
        status=status,
        why=_WHY[status].format(int(rows[-1]["timestep"]) if rows else 0),
        run=run,
        facts={**_facts(task, manifest), **({"scale": scale} if evaluated else {})},
        settings=settings,
        rows=rows,
        summary=run.summary if status == "finished" else None,
        data_score=behaviour if scale == "return" else float(normalized_score(behaviour, run.task)),
    )


def _defaults(algo: str) -> dict[str, Any]:
    """What settings mean that came after a run was made, as a manifest writes them."""
    kind = ALGORITHMS.get(algo)
    known = {x.name: x.default for x in fields(kind) if x.default is not MISSING} if kind else {}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in known.items()}


_WHY = {
    "finished": "",
    "diverged": "diverged after step {:,}",
    "running": "still running, step {:,} so far",
    "unfinished": "stopped after step {:,}",
}


def refuse_mixtures(records: Sequence[RunRecord]) -> None:
    """Compare what must be the same before numbers may stand side by side.

    Raises:
        UserError: Data, environment or a row's settings differ, or a seed is there twice; one line
            per difference.
    """
    known = [record for record in records if record.run is not None]
    lines: list[str] = []
    for record in known[1:]:
        lines += _differences(known[0], record, known[0].facts, record.facts)
    first_of: dict[str, RunRecord] = {}
    seen: dict[tuple[str, int], RunRecord] = {}
    for record in known:
        first = first_of.setdefault(record.label, record)
        lines += _differences(first, record, own_settings(first), own_settings(record))
        twin = seen.setdefault((record.label, record.seed), record)
        if twin is not record:
            lines.append(f"{record.name}: there twice, {_place(twin)} and {_place(record)}")
    if lines:
        remedy = "compare like runs: leave some out, or start afresh under another --log-root"
        raise UserError("\n  ".join([f"these runs cannot stand in one table; {remedy}", *lines]))


def _differences(
    one: RunRecord, other: RunRecord, first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[str]:
    # a run without an evaluation yet has no scale
    names = (first.keys() | second.keys()) - ({"scale"} - (first.keys() & second.keys()))
    return [
        f"{other.name}: {name} {_short(second.get(name))}, "
        f"but {_short(first.get(name))} in {one.name} ({_place(other)} and {_place(one)})"
        for name in sorted(names)
        if first.get(name) != second.get(name)
    ]


def _place(record: RunRecord) -> str:
    return "no folder" if record.run is None else str(record.run.path)


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] + "..." if len(text) == 64 else text


def own_settings(record: RunRecord) -> dict[str, Any]:
    """The settings in which the runs of one row must agree, by flag."""
    return {flag(name): value for name, value in record.settings.items() if name not in _OWN}


def _facts(task: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    data = manifest["data"]
    parts = [manifest["versions"]]
    told = manifest.get("resumed", [])
    parts += [part.get("versions", {}) for part in told if isinstance(part, dict)]
    simulators = {
        name: " and ".join(sorted({str(versions.get(name)) for versions in parts}))
        for name in ("gymnasium", "mujoco")
    }
    return {
        "task": task,
        "data source": str(data.get("source")),
        "data sha256": str(data.get("sha256")),
        "environment": str(data.get("env_version")),
        **simulators,
    }
