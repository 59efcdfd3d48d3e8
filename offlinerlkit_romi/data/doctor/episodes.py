"""Checks across rows: next states of another episode, cuts that no flag tells."""

from functools import cached_property

import numpy as np

from offlinerlkit_romi.data.d4rl_antmaze import JUMP
from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.doctor.predict import LEAST_ROWS, Predictor
from offlinerlkit_romi.data.doctor.rules import clearly
from offlinerlkit_romi.data.doctor.starts import MAZE_RULE, rule_name, simulator_of
from offlinerlkit_romi.data.doctor.values import NO_ROWS
from offlinerlkit_romi.data.rows import Array, Rows

MAZE_JUMP = 1.5  # metres per step at least; D4RL's ant runs about 0.5
MANY = 5  # ends from which a majority tells something


class Borders:
    """Where one episode's rows touch the next one's, judged once for all checks.

    Attributes:
        foreign: (n,) rows whose next state belongs to another episode.
        unmarked: (n,) rows that no flag ends although the next row starts elsewhere.
    """

    def __init__(self, records: Rows) -> None:
        self._records = records
        self.unmarked = np.zeros(len(records), bool)
        self.foreign = self._resets() | self._jumps()
        if records.next_observations is not None and records.ordered:
            self.foreign |= self._beyond_ends()
            if records.timeouts is not None:
                self._judge_breaks()

    def _resets(self) -> Array:
        """Rows that a reset of the simulator follows, which no step leads to."""
        records, result = self._records, np.zeros(len(self._records), bool)
        simulator = simulator_of(records)
        if simulator is None:
            return result
        if records.next_observations is not None:
            rows = np.flatnonzero(simulator.contains(records.next_observations))
        else:
            rows = np.flatnonzero(simulator.contains(records.observations)[1:] & ~records.ends[:-1])
        result[rows[~simulator.contains(records.observations[rows])]] = True
        return result

    def _jumps(self) -> Array:
        """Rows after which a maze's robot is where it cannot have gone in one step."""
        records, result = self._records, np.zeros(len(self._records), bool)
        if rule_name(records) != MAZE_RULE:
            return result
        rows = np.arange(len(records))
        if records.next_observations is None:  # a terminal is no end there
            closed = result if records.timeouts is None else records.timeouts
            rows = np.flatnonzero(~closed[:-1])
        if not len(rows):
            return result
        change = records.following(rows)[:, :2] - records.observations[rows, :2]
        far = np.linalg.norm(change, axis=1)
        result[rows[far > max(MAZE_JUMP, JUMP * far.mean())]] = True
        return result

    def _beyond_ends(self) -> Array:
        """Ends whose stored next state is, bit for bit, where the next row starts."""
        records, result = self._records, np.zeros(len(self._records), bool)
        rows = np.flatnonzero((records.ends & ~records.breaks)[:-1])
        # with a known start, `_resets` has judged these
        if not len(rows) or simulator_of(records) is not None or self._predictor is None:
            return result
        # a long recording cut into pieces goes on behind its flags: there nothing is foreign
        score = self._predictor.score(rows, records.following(rows))
        odd = score > (self._predictor.odd if len(rows) >= MANY else self._predictor.oddest)
        result[rows if odd.mean() > 0.5 else NO_ROWS] = True
        return result

    def _judge_breaks(self) -> None:
        """Of rows cut without a flag: is the next state wrong, or is the flag missing?"""
        records = self._records
        cut = records.breaks & ~records.ends & ~self.foreign
        rows = np.flatnonzero(cut[:-1])
        rows = rows[~clearly(records, rows)]  # a terminal without its flag: `rules` says so
        if not len(rows):
            return
        self.unmarked[rows] = True
        if self._predictor is None:
            return
        assert records.next_observations is not None
        stored = self._predictor.score(rows, records.next_observations[rows])
        following = self._predictor.score(rows, records.observations[rows + 1])
        wrong = stored > following
        if wrong.mean() < 0.5:  # where cuts are the rule, one step may look odder than two
            wrong &= stored > self._predictor.oddest
        self.foreign[rows[wrong]] = True
        self.unmarked[rows[wrong]] = False

    @cached_property
    def _predictor(self) -> Predictor | None:
        """A model of honest steps; None where there are too few."""
        records = self._records
        honest = ~records.ends & ~records.breaks
        honest[-1] = False
        return Predictor(records, honest) if honest.sum() >= LEAST_ROWS else None


def check_next_states(records: Rows, borders: Borders) -> Finding | None:
    """Next states that belong to another episode."""
    stored = records.next_observations is not None
    return Finding.of(
        "next-of-other-episode",
        "error",
        borders.foreign,
        f"have a next state of another episode ({'stored' if stored else 'no flag ends them'})",
        "drop these next states or rows, or flag the time limits",
    )


def check_marks(records: Rows, borders: Borders) -> Finding | None:
    """Cuts between episodes that neither `terminals` nor `timeouts` tells."""
    return Finding.of(
        "cut-without-flag",
        "warning",
        borders.unmarked,
        "are followed by a row that starts elsewhere, and no flag says so",
        "flag them in `timeouts`: returns and lengths of episodes are wrong without",
    )


def check_order(records: Rows, borders: Borders) -> Finding | None:
    """Rows that are no recording in time, such as shuffled ones."""
    del borders
    if records.ordered:
        return None
    return Finding(
        "not-in-order",
        "note",
        NO_ROWS,
        "rows do not follow each other in time, so what depends on episodes was not examined",
        "nothing, if they were shuffled on purpose",
    )
