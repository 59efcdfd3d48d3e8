"""Checks of single values: not finite, outside the box, all zero, repeated."""

import numpy as np

from offlinerlkit_romi.data.checks import ACTION_SLACK, outside
from offlinerlkit_romi.data.doctor.finding import Finding
from offlinerlkit_romi.data.rows import BLOCK_ROWS, Array, Bounds, Rows

NO_ROWS = np.zeros(0, dtype=np.int64)


def check_finite(records: Rows) -> Finding | None:
    """NaN or infinity in states, actions or rewards."""
    columns = [records.observations, records.actions, records.rewards, records.next_observations]
    bad = np.zeros(len(records), bool)
    for values in columns:
        if values is None:
            continue
        with np.errstate(all="ignore"):  # a finite sum has finite terms only
            if np.isfinite(values.sum(dtype=np.float64)):
                continue
        bad |= ~np.isfinite(values).reshape(len(records), -1).all(axis=1)
    return Finding.of("not-finite", "error", bad, "hold NaN or infinite values", "drop these rows")


def check_actions(records: Rows) -> Finding | None:
    """Actions outside their box."""
    actions, limit = records.actions, 1.0 + ACTION_SLACK
    if records.bounds is None and actions.max(initial=0.0) <= limit >= -actions.min(initial=0.0):
        return None  # false for NaN, too
    wrong = outside(actions, records.box) & np.isfinite(actions).all(axis=1)
    if not wrong.any():
        return None
    largest = float(np.abs(actions[wrong]).max())
    return Finding.of(
        "actions-outside",
        "error",
        wrong,
        f"have actions outside {in_words(records.box)} (up to {largest:.3g} in magnitude)",
        "give --action-bounds if your box is another one, else clip them",
    )


def in_words(box: Bounds) -> str:
    """A box as intervals: one where all dimensions are alike."""
    pairs = [f"[{low:g}, {high:g}]" for low, high in zip(*box, strict=True)]
    return " x ".join(pairs if len(set(pairs)) > 1 else pairs[:1])


def check_rewards(records: Rows) -> Finding | None:
    """A load in which every reward is zero."""
    if records.rewards.any():
        return None
    return Finding(
        "zero-rewards",
        "error",
        NO_ROWS,
        "every reward is zero, so there is nothing to learn",
        "load the file again with its rewards; a reader that drops terminal rows loses sparse ones",
    )


def check_duplicates(records: Rows) -> Finding | None:
    """Rows whose state, action and reward all repeat an earlier row's, bit for bit."""
    return Finding.of(
        "duplicate-rows",
        "warning",
        repeated(records),
        "repeat an earlier row",
        "drop them, unless they weight the data on purpose",
    )


def repeated(records: Rows) -> Array:
    """(n,) mask of the rows of which an earlier one is a copy."""
    codes = _codes(records)
    result = np.zeros(len(records), bool)
    in_order = np.sort(codes)
    if not (in_order[1:] == in_order[:-1]).any():
        return result
    order = np.argsort(codes, kind="stable")
    same = np.flatnonzero(codes[order[1:]] == codes[order[:-1]])
    earlier, later = order[same], order[same + 1]
    equal = np.ones(len(same), bool)  # equal codes are nearly always equal rows
    for values in (records.observations, records.actions, records.rewards[:, None]):
        equal &= (_words(values[earlier]) == _words(values[later])).all(axis=1)
    result[later[equal]] = True
    return result


def _words(values: Array) -> Array:
    """The bits of each row as 32-bit words (n, words)."""
    wide = np.ascontiguousarray(values)
    if wide.dtype.itemsize % 4:
        wide = wide.astype(np.float32)
    return wide.view(np.uint32).reshape(len(wide), -1)


def _codes(records: Rows) -> Array:
    """(n,) 64-bit hashes of the rows."""
    rng = np.random.default_rng(0)
    codes = np.zeros(len(records), np.uint64)
    for values in (records.observations, records.actions, records.rewards[:, None]):
        odd = 2 * rng.integers(2**62, size=_words(values[:1]).shape[1], dtype=np.uint64) + 1
        for at in range(0, len(codes), BLOCK_ROWS):
            block = _words(values[at : at + BLOCK_ROWS]).astype(np.uint64)
            codes[at : at + BLOCK_ROWS] += block @ odd
    return codes
