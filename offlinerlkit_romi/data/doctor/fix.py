"""`data doctor --fix`: a corrected copy, where there is one correction to make."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from offlinerlkit_romi.data.doctor.diagnosis import Diagnosis, diagnose
from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.doctor.starts import simulator_of
from offlinerlkit_romi.data.rows import Array, Rows

ROUNDS = 4  # a repair can bring to light what another defect hid
Repair = Callable[[Rows, Finding], tuple[Rows, str]]


@dataclass(frozen=True)
class Fixed:
    """The corrected rows, what was done in one line each, what is left, how many rows changed."""

    rows: Rows
    done: list[str]
    left: Diagnosis
    changed: int


def fix(rows: Rows) -> Fixed:
    """Repair what can be repaired."""
    done: list[str] = []
    changed = 0
    for _ in range(ROUNDS):
        repaired = False
        for check, repair in REPAIRS.items():
            found = _find(diagnose(rows), check)
            if found is not None:
                rows, words = repair(rows, found)
                done.append(f"{check}: {words}")
                changed += found.count
                repaired = True
        if not repaired:
            break
    return Fixed(rows, done, diagnose(rows), changed)


def _find(diagnosis: Diagnosis, check: str) -> Finding | None:
    return next((found for found in diagnosis.findings if found.check == check), None)


def _drop_found(records: Rows, found: Finding) -> tuple[Rows, str]:
    return _drop(records, found.rows), f"dropped {found.count} rows"


def _drop(records: Rows, rows: Array) -> Rows:
    """Take rows out; an episode that lost its middle is cut there."""
    bad = np.zeros(len(records), bool)
    bad[rows] = True
    return records.flag(timeouts=(records.torn(bad), True)).take(~bad)


def _clip(records: Rows, found: Finding) -> tuple[Rows, str]:
    actions = records.actions
    clipped = np.clip(actions, *records.box).astype(actions.dtype)
    return records.with_columns(actions=clipped), f"clipped the actions of {found.count} rows"


def _next_states(records: Rows, found: Finding) -> tuple[Rows, str]:
    rows = found.rows
    if records.next_observations is None:
        return records.flag(timeouts=(rows, True)), f"flagged {len(rows)} rows as time limits"
    inside = records.breaks[rows] & ~records.ends[rows]
    restored, lost = rows[inside], rows[~inside]
    states = records.next_observations.copy()
    states[restored] = records.observations[restored + 1]
    records = records.with_columns(next_observations=states)
    words = [f"took {len(restored)} next states from the following row"] if len(restored) else []
    if not len(lost):
        return records, "; ".join(words)
    if _better_underived(records, lost):
        # every next state within an episode is the following row's observation, which readers take
        records = records.flag(timeouts=(lost[~records.ends[lost]], True))
        words.append(
            "removed `next_observations`, which readers take from the following rows: "
            f"those of {len(lost)} rows at the ends of episodes are lost"
        )
        return records.with_columns(next_observations=None), "; ".join(words)
    words.append(f"dropped {len(lost)} rows whose next state is lost")
    # what went before them ends there, whatever their flags said
    before = np.setdiff1d(lost[lost > 0] - 1, lost)
    records = records.flag(timeouts=(before[~records.ends[before]], True))
    return _drop(records, lost), "; ".join(words)


def _better_underived(records: Rows, lost: Array) -> bool:
    """Whether a file without next states says more: it keeps the terminals and their rewards."""
    if (records.breaks & ~records.ends)[:-1].any():
        return False
    if np.isin(np.flatnonzero(records.ends[:-1]), lost).all():
        return True
    return bool(2 * records.terminals[lost].sum() > records.terminals.sum())


def _mark(records: Rows, found: Finding) -> tuple[Rows, str]:
    return records.flag(timeouts=(found.rows, True)), f"flagged {found.count} time limits"


def _to_timeouts(records: Rows, found: Finding) -> tuple[Rows, str]:
    moved = records.flag(terminals=(found.rows, False), timeouts=(found.rows, True))
    return moved, f"moved {found.count} flags from terminals to timeouts"


def _without_cause(records: Rows, found: Finding) -> tuple[Rows, str]:
    rows, simulator = found.rows, simulator_of(records)
    ending = records.breaks[rows] | (rows == len(records) - 1)
    if records.next_observations is None and simulator is not None:
        following = np.minimum(rows + 1, len(records) - 1)
        ending |= simulator.contains(records.observations[following])
    records = records.flag(terminals=(rows, False), timeouts=(rows[ending], True))
    return records, (
        f"removed {len(rows)} terminal flags, {int(ending.sum())} of them are time limits now"
    )


def _missing(records: Rows, found: Finding) -> tuple[Rows, str]:
    records = records.flag(terminals=(found.rows, True))
    if "timeouts" in records.columns:
        records = records.flag(timeouts=(found.rows, False))
    return records, f"flagged {found.count} terminals"


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
