"""Bootstrap intervals (Efron, 1979): how far a figure would move with other samples of the same kind."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def interval(values: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """The middle 95 % of the mean over `draws` resamples of `values` (n,); NaN are left out. None: nothing is left."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    picks = np.random.default_rng(seed).integers(0, len(known), (draws, len(known)))
    low, high = np.percentile(known[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def resample(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count,): how often each of `count` items is drawn when `count` are drawn with replacement."""
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


def spread(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of a figure's resamples; NaN twice where none is finite."""
    finite = [v for v in values if np.isfinite(v)]
    if not finite:
        return float("nan"), float("nan")
    return float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))
