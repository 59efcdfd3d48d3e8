"""All checks in a table, and what they found together."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offlinerlkit_romi.data.doctor import episodes, rules, values
from offlinerlkit_romi.data.doctor.episodes import Borders
from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.rows import Array, Rows

Check = Callable[[Rows, Borders], Finding | None]


def _of_flags(check: Callable[[Rows, Array], Finding | None]) -> Check:
    return lambda records, borders: check(records, borders.foreign)


# what single rows tell; in the order in which `fix` goes through them
ROW_CHECKS: dict[str, Callable[[Rows], Finding | None]] = {
    "not-finite": values.check_finite,
    "duplicate-rows": values.check_duplicates,
    "actions-outside": values.check_actions,
    "zero-rewards": values.check_rewards,
}
# what rows tell together, without those that the first two checks above would drop
EPISODE_CHECKS: dict[str, Check] = {
    "not-in-order": episodes.check_order,
    "next-of-other-episode": episodes.check_next_states,
    "cut-without-flag": episodes.check_marks,
    "timeouts-as-terminals": _of_flags(rules.check_timeouts),
    "terminal-without-cause": _of_flags(rules.check_causes),
    "terminal-missing": _of_flags(rules.check_missing),
}
DROPPED = ("not-finite", "duplicate-rows")
CHECKS = (*ROW_CHECKS, *EPISODE_CHECKS)


@dataclass(frozen=True)
class Diagnosis:
    """What was found, and in how many rows."""

    rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make training learn something wrong."""
        return tuple(f for f in self.findings if f.severity == "error")

    def lines(self) -> list[str]:
        """One line per finding, or one that says there is none."""
        if not self.findings:
            return ["data: no finding"]
        return [f"data {found.severity}: {found.check}: {found}" for found in self.findings]


def diagnose(records: Rows) -> Diagnosis:
    """Run every check that needs no simulator: seconds for millions of rows."""
    found = [f for check in ROW_CHECKS.values() if (f := check(records)) is not None]
    bad = np.zeros(len(records), bool)
    for finding in found:
        if finding.check in DROPPED:
            bad[finding.rows] = True
    if not bad.all():
        found += _of_episodes(records, bad)
    return Diagnosis(len(records), tuple(found))


def _of_episodes(records: Rows, bad: Array) -> list[Finding]:
    sound = _without(records, bad) if bad.any() else records
    borders, numbers = Borders(sound), np.flatnonzero(~bad)
    found = [f for check in EPISODE_CHECKS.values() if (f := check(sound, borders)) is not None]
    return [replace(f, rows=numbers[f.rows]) for f in found]


def _without(records: Rows, bad: Array) -> Rows:
    """The other rows, cut where a part of an episode is missing."""
    known = records.known()
    if records.timeouts is not None or records.next_observations is None:
        known = known.flag(timeouts=(records.torn(bad), True))
    return known.take(~bad)
