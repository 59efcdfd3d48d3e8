"""Checks of flags: terminals against the task's termination rule, time limits among terminals."""

import numpy as np

from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.doctor.starts import CLIPPED_VELOCITY, SIMULATORS, rule_name
from offlinerlkit_romi.data.rows import BLOCK_ROWS, Array, Rows

BORDER = 1e-5  # relative: the simulator judged in float64 what is stored as float32
RARE = 0.05  # share of the ends below which a disagreement is no reason to stop
NEVER = "halfcheetah"  # the rule that ends nothing
SHORTEST_LIMIT = 20  # no time limit is shorter


def ends_by_rule(records: Rows, states: Array) -> Array:
    """Where the task's rule ends an episode in `states` (k, S): (k,); NaN states do not."""
    from offlinerlkit_romi.utils.termination_fns import get_termination_fn

    assert records.task is not None
    rule, result = get_termination_fn(records.task), np.zeros(len(states), bool)
    for at in range(0, len(states), BLOCK_ROWS):
        block = states[at : at + BLOCK_ROWS]
        with np.errstate(invalid="ignore"):
            ended = rule(block, block, block)[:, 0]
        result[at : at + BLOCK_ROWS] = ended
    suspects = np.flatnonzero(result)
    result[suspects] = np.isfinite(states[suspects]).all(axis=1)
    return result


def known(records: Rows) -> bool:
    """Whether the rule that the task names is its simulator's own."""
    return rule_name(records) in SIMULATORS


def clearly(records: Rows, rows: Array, ended: bool = True) -> Array:
    """Rows (of those given) whose next state is on one side of the rule's border, not on it."""
    if not known(records):
        return np.zeros(len(rows), bool)
    return _clear(records, records.following(rows), ended)


def _clear(records: Rows, states: Array, ended: bool) -> Array:
    agreed = ends_by_rule(records, states) == ended
    for factor in (1.0 - BORDER, 1.0 + BORDER):
        rows = np.flatnonzero(agreed)
        agreed[rows] = ends_by_rule(records, states[rows] * factor) == ended
    return agreed


def check_timeouts(records: Rows, foreign: Array) -> Finding | None:
    """Time limits flagged as terminals."""
    flagged = _limits_as_terminals(records, foreign)
    few = flagged.sum() <= RARE * records.terminals.sum()
    return Finding.of(
        "timeouts-as-terminals",
        "warning" if few else "error",
        flagged,
        "reach the time limit and are flagged as terminals",
        "flag them in `timeouts` instead: a critic must not take a cut for an end",
    )


def _limits_as_terminals(records: Rows, foreign: Array) -> Array:
    """(n,) mask of `check_timeouts`."""
    result = np.zeros(len(records), bool)
    if not records.ordered or not records.terminals.any():
        return result
    if not known(records):
        if rule_name(records) is None:  # in a maze a terminal is the goal, whenever it is reached
            result[_piled_up(records)] = True
        return result
    assert records.task is not None
    at_limit = records.terminals & (records.steps == records.task.max_episode_steps)
    rows = np.flatnonzero(at_limit & ~foreign)
    result[rows[_no_cause(records, rows)]] = True
    return result


def _no_cause(records: Rows, rows: Array) -> Array:
    """Which of these terminal rows the rule gives no reason to end: (k,)."""
    if rule_name(records) == NEVER:
        return np.ones(len(rows), bool)
    # where the last step was heading serves where the next state is not stored
    heading = 2 * records.observations[rows] - records.observations[np.maximum(rows - 1, 0)]
    if records.next_observations is not None:
        unknown = _stands_in(records, rows)[:, None]
        heading = np.where(unknown, heading, records.next_observations[rows])
    return _clear(records, heading, False)


def _stands_in(records: Rows, rows: Array) -> Array:
    """Rows with no next state but their own one in its place, as the loader leaves terminals."""
    if records.next_observations is None:
        return np.ones(len(rows), bool)
    return np.asarray((records.next_observations[rows] == records.observations[rows]).all(axis=1))


def _hidden_cause(records: Rows, rows: Array) -> Array:
    """Which rows may have ended by something their next state does not show: (k,)."""
    if rule_name(records) != "hopper":  # ends at velocities of 100, of which it shows 10
        return np.zeros(len(rows), bool)
    with np.errstate(invalid="ignore"):
        clipped = np.abs(records.following(rows)) >= CLIPPED_VELOCITY - BORDER
    return np.asarray(clipped.any(axis=1))


def _piled_up(records: Rows) -> Array:
    """Terminals at the longest length of all, where several episodes have exactly that one."""
    rows = np.flatnonzero(records.terminals)
    lengths = records.steps[rows]
    longest = int(lengths.max())
    at_limit = rows[lengths == longest]
    told = records.timeouts is not None and records.timeouts.any()
    if told or longest < SHORTEST_LIMIT or len(at_limit) < max(3, RARE * len(rows)):
        return rows[:0]
    return at_limit


def check_causes(records: Rows, foreign: Array) -> Finding | None:
    """Terminals where the task's rule ends nothing."""
    if not known(records):
        return None
    claimed = foreign | _limits_as_terminals(records, foreign)
    rows = np.flatnonzero(records.terminals & ~claimed)
    if rule_name(records) != NEVER:
        rows = rows[~_stands_in(records, rows)]
        rows = rows[_no_cause(records, rows) & ~_hidden_cause(records, rows)]
    return _disagreement(
        records, "terminal-without-cause", rows, "are flagged as terminals against the task's rule"
    )


def check_missing(records: Rows, foreign: Array) -> Finding | None:
    """States in which the task's rule ends the episode, without a terminal flag."""
    if not known(records) or rule_name(records) == NEVER:
        return None
    rows = np.flatnonzero(~records.terminals)
    if records.next_observations is None:
        rows = np.flatnonzero(~records.ends[:-1])
    rows = rows[ends_by_rule(records, records.following(rows))]
    rows = rows[~foreign[rows] & clearly(records, rows)]
    return _disagreement(
        records, "terminal-missing", rows, "end an episode by the task's rule, without a flag"
    )


def _disagreement(records: Rows, check: str, rows: Array, what: str) -> Finding | None:
    rare = len(rows) <= RARE * (records.terminals.sum() + (check == "terminal-missing") * len(rows))
    remedy = "make the flags again from the next states"
    return Finding.of(check, "warning" if rare else "error", rows, what, remedy)
