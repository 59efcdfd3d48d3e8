"""`data doctor --fix`: a corrected copy, where there is one correction to make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offlinerlkit_romi.data.checks import Bounds
from offlinerlkit_romi.data.doctor.diagnosis import Diagnosis, diagnose
from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.doctor.records import Array, Records, of_raw
from offlinerlkit_romi.data.raw import RawData

if TYPE_CHECKING:
    from offlinerlkit_romi.envs.tasks import Task

ROUNDS = 4  # a repair can bring to light what another defect hid
Repair = Callable[[RawData, Records, Finding], tuple[RawData, str]]


@dataclass(frozen=True)
class Fixed:
    """The corrected rows, what was done in one line each, what is left, how many rows changed."""

    data: RawData
    done: list[str]
    left: Diagnosis
    changed: int


def fix(data: RawData, task: "Task | None", bounds: Bounds | None = None) -> Fixed:
    """Repair what can be repaired; `bounds` is the actions' box, [-1, 1] where it is None."""
    done: list[str] = []
    changed = 0
    for _ in range(ROUNDS):
        repaired = False
        for check, repair in REPAIRS.items():
            records = of_raw(data, task, bounds)
            found = _find(diagnose(records), check)
            if found is not None:
                data, words = repair(data, records, found)
                done.append(f"{check}: {words}")
                changed += found.count
                repaired = True
        if not repaired:
            break
    return Fixed(data, done, diagnose(of_raw(data, task, bounds)), changed)


def _find(diagnosis: Diagnosis, check: str) -> Finding | None:
    return next((found for found in diagnosis.findings if found.check == check), None)


def _drop_found(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    bad = np.zeros(len(records), bool)
    bad[found.rows] = True
    return _drop(data, records, bad), f"dropped {found.count} rows"


def _drop(data: RawData, records: Records, bad: Array) -> RawData:
    """Take rows out; an episode that lost its middle is cut there."""
    return _flag(data, records, timeouts=(records.torn(bad), True)).take(~bad)


def _flag(data: RawData, records: Records, **changes: tuple[Array, bool]) -> RawData:
    """Set flags in some rows, keeping the columns' types and shapes."""
    columns = {}
    for key, (rows, value) in changes.items():
        # whoever writes a new column of timeouts says where every episode was cut
        column = data.columns[key].copy() if key in data.columns else records.said_timeouts()
        column.reshape(-1)[rows] = value
        columns[key] = column
    return data.with_columns(**columns)


def _clip(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    actions = data.columns["actions"]
    clipped = np.clip(actions, *records.box).astype(actions.dtype)
    return data.with_columns(actions=clipped), f"clipped the actions of {found.count} rows"


def _next_states(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    rows = found.rows
    if records.next_observations is None:
        cut = _flag(data, records, timeouts=(rows, True))
        return cut, f"flagged {len(rows)} rows as time limits"
    inside = records.breaks[rows] & ~records.ends[rows]
    restored, lost = rows[inside], rows[~inside]
    states = records.next_observations.copy()
    states[restored] = records.observations[restored + 1]
    data = data.with_columns(next_observations=states)
    words = [f"took {len(restored)} next states from the following row"] if len(restored) else []
    if not len(lost):
        return data, "; ".join(words)
    records = of_raw(data, records.task, records.bounds)
    if _better_underived(records, lost):
        # every next state within an episode is the following row's observation, which readers take
        open_ends = lost[~records.ends[lost]]
        data = _flag(data, records, timeouts=(open_ends, True))
        words.append(
            "removed `next_observations`, which readers take from the following rows: "
            f"those of {len(lost)} rows at the ends of episodes are lost"
        )
        return data.with_columns(next_observations=None), "; ".join(words)
    bad = np.zeros(len(records), bool)
    bad[lost] = True
    words.append(f"dropped {len(lost)} rows whose next state is lost")
    # what went before them ends there, whatever their flags said
    before = lost[lost > 0] - 1
    before = before[~bad[before] & ~records.ends[before]]
    data = _flag(data, records, timeouts=(before, True))
    return _drop(data, of_raw(data, records.task, records.bounds), bad), "; ".join(words)


def _better_underived(records: Records, lost: Array) -> bool:
    """Whether a file without next states says more: it keeps the terminals and their rewards."""
    if (records.breaks & ~records.ends)[:-1].any():
        return False
    if np.isin(np.flatnonzero(records.ends[:-1]), lost).all():
        return True
    return bool(2 * records.terminals[lost].sum() > records.terminals.sum())


def _mark(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    return _flag(data, records, timeouts=(found.rows, True)), f"flagged {found.count} time limits"


def _to_timeouts(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    moved = _flag(data, records, terminals=(found.rows, False), timeouts=(found.rows, True))
    return moved, f"moved {found.count} flags from terminals to timeouts"


def _without_cause(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    rows = found.rows
    ending = records.breaks[rows] | (rows == len(records) - 1)
    if records.next_observations is None and records.simulator is not None:
        following = np.minimum(rows + 1, len(records) - 1)
        ending |= records.simulator.contains(records.observations[following])
    data = _flag(data, records, terminals=(rows, False), timeouts=(rows[ending], True))
    return data, (
        f"removed {len(rows)} terminal flags, {int(ending.sum())} of them are time limits now"
    )


def _missing(data: RawData, records: Records, found: Finding) -> tuple[RawData, str]:
    data = _flag(data, records, terminals=(found.rows, True))
    if "timeouts" in data.columns:
        data = _flag(data, records, timeouts=(found.rows, False))
    return data, f"flagged {found.count} terminals"


# what is not listed has no correction: rewards that are gone, another simulator, a shuffled order
REPAIRS: dict[str, Repair] = {
    "not-finite": _drop_found,
    "duplicate-rows": _drop_found,
    "actions-outside": _clip,
    "next-of-other-episode": _next_states,
    "cut-without-flag": _mark,
    "timeouts-as-terminals": _to_timeouts,
    "terminal-without-cause": _without_cause,
    "terminal-missing": _missing,
}

__all__ = ["REPAIRS", "Fixed", "fix"]
