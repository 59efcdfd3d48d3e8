"""Few seeds, honestly: means, spreads and intervals over runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST = 3  # an interval from fewer runs would say nothing
REMEDY = "no IQM: scipy is not installed; pip install 'offlinerlkit-romi[report]'"


class Estimate(NamedTuple):
    """A number over runs and its interval; NaN where it cannot be told."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and sample standard deviation (n - 1); NaN where there is none."""
    if not values:
        return math.nan, math.nan
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), std


def can_estimate() -> bool:
    """Whether scipy is there."""
    return find_spec("scipy") is not None


def interquartile_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Interquartile mean over runs with its 95 % percentile bootstrap interval.

    Resampling is stratified by task, as Agarwal et al. (NeurIPS 2021, "Deep RL at the edge of the
    statistical precipice") have it; a comparison has one task, so runs of one algorithm are one
    stratum.

    Args:
        values: One score per run, (n,).
        seed: Of the resampling.

    Returns:
        NaN for fewer than three runs, for an unknown score among them, and without scipy.
    """
    if len(values) < FEWEST or not all(map(math.isfinite, values)) or not can_estimate():
        return UNKNOWN
    from scipy import stats

    def iqm(sample: Any, axis: int = -1) -> Any:
        return stats.trim_mean(sample, 0.25, axis=axis)

    value = float(iqm(np.asarray(values)))
    if max(values) == min(values):  # scipy warns of a distribution of one point
        return Estimate(value, value, value)
    found = stats.bootstrap(
        (np.asarray(values),),
        iqm,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Estimate(value, float(low), float(high))
