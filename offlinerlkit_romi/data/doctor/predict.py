"""How well a next state follows from a state and an action: a linear fit as the measure."""

import numpy as np

from offlinerlkit_romi.data.rows import Array, Rows

LEAST_ROWS = 50
SAMPLE_ROWS = 8000
TYPICAL = 0.95  # share of honest transitions below the score that counts as odd


class Predictor:
    """A linear model of one-step changes, fitted to transitions within episodes.

    The score of a transition is the mean over dimensions of the log of its error in units of the
    median error: about 0 for honest ones, 1 to 5 for a next state of another episode.

    Attributes:
        odd: Score that 5 % of the honest transitions exceed.
        oddest: Score that none of those in the fit exceeds.
    """

    def __init__(self, records: Rows, honest: Array, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = np.flatnonzero(honest)
        if len(rows) > SAMPLE_ROWS:
            rows = np.sort(rng.choice(rows, SAMPLE_ROWS, replace=False))
        self._records = records
        states = records.observations[rows].astype(np.float64)
        self._mean, self._scale = states.mean(axis=0), states.std(axis=0) + 1e-8
        following = records.following(rows)
        inputs, change = self._inputs(rows), following.astype(np.float64) - states
        self._weights: Array = np.zeros((inputs.shape[1], change.shape[1]))
        self._unit: Array = np.ones(change.shape[1])
        kept = np.arange(len(rows))
        for _ in range(3):  # contacts spoil a few rows: fit again without the worst tenth
            self._weights = np.linalg.lstsq(inputs[kept], change[kept], rcond=None)[0]
            errors = np.abs(change - inputs @ self._weights)
            self._unit = np.median(errors, axis=0) + 1e-9
            score = self._score(errors)
            kept = np.flatnonzero(score <= np.quantile(score, 0.9))
        self.odd, self.oddest = float(np.quantile(score, TYPICAL)), float(score.max())

    def _inputs(self, rows: Array) -> Array:
        states = (self._records.observations[rows] - self._mean) / self._scale
        actions = self._records.actions[rows].astype(np.float64)
        return np.concatenate([states, actions, np.ones((len(rows), 1))], axis=1)

    def _score(self, errors: Array) -> Array:
        score: Array = np.log(errors / self._unit + 1e-2).mean(axis=1)
        return score

    def score(self, rows: Array, following: Array) -> Array:
        """How odd it is that `following` (k, S) comes after the rows' states and actions: (k,)."""
        change = following.astype(np.float64) - self._records.observations[rows]
        return self._score(np.abs(change - self._inputs(rows) @ self._weights))
