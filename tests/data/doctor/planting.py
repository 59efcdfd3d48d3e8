"""Plants one kind of defect in clean data and says which rows the doctor must name.

Each function gets arrays to change in place and a generator, and returns the rows.
"""

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
Plant = Callable[[Arrays, np.random.Generator], np.ndarray]


def some(rng: np.random.Generator, candidates: np.ndarray, most: int = 5) -> np.ndarray:
    """One to `most` of the candidates, ascending."""
    count = int(rng.integers(1, min(most, len(candidates)) + 1))
    return np.sort(rng.choice(candidates, count, replace=False))


def ends(arrays: Arrays) -> np.ndarray:
    return arrays["terminals"] | arrays["timeouts"]


def inner(arrays: Arrays) -> np.ndarray:
    """Rows well inside an episode, no two of them neighbours."""
    away = np.ones(len(arrays["rewards"]), bool)
    for row in np.flatnonzero(ends(arrays)):
        away[max(0, row - 2) : row + 3] = False
    away[:2] = away[-2:] = False
    away[1::2] = False
    return np.flatnonzero(away)


def nan(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    rows = some(rng, inner(arrays))
    for row in rows:
        key = rng.choice(["observations", "actions", "rewards", "next_observations"])
        arrays[key][row] = rng.choice([np.nan, np.inf, -np.inf])
    return rows


def actions(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    rows = some(rng, np.arange(len(arrays["rewards"])))
    arrays["actions"][rows, rng.integers(3)] = rng.choice([-1.5, 1.001, 30.0])
    return rows


def copies(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    """Copies of rows, behind them or at the end of the file."""
    n = len(arrays["rewards"])
    rows = some(rng, inner(arrays))
    if rng.random() < 0.5:
        order, made = np.r_[np.arange(n), rows], n + np.arange(len(rows))
    else:
        order = np.sort(np.r_[np.arange(n), rows])
        made = rows + np.arange(len(rows)) + 1
    for key, values in arrays.items():
        arrays[key] = values[order]
    return made


def no_rewards(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    arrays["rewards"][:] = 0.0
    return np.zeros(0, int)


def next_over_ends(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    """The next row's state, although the episode has ended: what d4rl.qlearning_dataset does."""
    rows = some(rng, np.flatnonzero(ends(arrays)[:-1]))
    arrays["next_observations"][rows] = arrays["observations"][rows + 1]
    return rows


def next_over_all_ends(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    rows = np.flatnonzero(ends(arrays)[:-1])
    arrays["next_observations"][rows] = arrays["observations"][rows + 1]
    return rows


def next_of_elsewhere(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    """The state of some row of another episode, in the middle of one."""
    episode = np.cumsum(np.r_[False, ends(arrays)[:-1]])
    rows = some(rng, inner(arrays))
    for row in rows:
        others = np.flatnonzero(episode != episode[row])
        other = others[rng.integers(len(others))]
        arrays["next_observations"][row] = arrays["observations"][other]
    return rows


def unflagged_without_next(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    """No stored next states, and time limits that no flag tells."""
    rows = some(rng, np.flatnonzero(ends(arrays)[:-1]))
    del arrays["next_observations"]
    arrays["terminals"][rows] = arrays["timeouts"][rows] = False
    return rows


def lost_timeouts(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    rows = some(rng, np.flatnonzero(arrays["timeouts"][:-1]))
    arrays["timeouts"][rows] = False
    return rows


def timeouts_as_terminals(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    begins = np.flatnonzero(np.r_[True, ends(arrays)[:-1]])
    stops = np.flatnonzero(ends(arrays))
    length = stops - begins[: len(stops)] + 1
    rows = stops[(length == 1000) & arrays["timeouts"][stops]]
    rows = some(rng, rows)
    arrays["terminals"][rows], arrays["timeouts"][rows] = True, False
    return rows


def terminals_inside(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    # Hopper's rule also reads velocities, of which it shows 10 at most
    slow = (np.abs(arrays["next_observations"]) < 9.9).all(axis=1)
    rows = inner(arrays)
    rows = some(rng, rows[slow[rows]])
    arrays["terminals"][rows] = True
    return rows


def lost_terminals(arrays: Arrays, rng: np.random.Generator) -> np.ndarray:
    rows = some(rng, np.flatnonzero(arrays["terminals"]))
    arrays["terminals"][rows] = False
    return rows


PLANTS: dict[str, tuple[str, Plant]] = {
    "nan": ("not-finite", nan),
    "actions": ("actions-outside", actions),
    "copies": ("duplicate-rows", copies),
    "no rewards": ("zero-rewards", no_rewards),
    "next over ends": ("next-of-other-episode", next_over_ends),
    "next over all ends": ("next-of-other-episode", next_over_all_ends),
    "next of elsewhere": ("next-of-other-episode", next_of_elsewhere),
    "unflagged without next": ("next-of-other-episode", unflagged_without_next),
    "lost timeouts": ("cut-without-flag", lost_timeouts),
    "timeouts as terminals": ("timeouts-as-terminals", timeouts_as_terminals),
    "terminals inside": ("terminal-without-cause", terminals_inside),
    "lost terminals": ("terminal-missing", lost_terminals),
}
UNFIXABLE = ("zero-rewards",)
