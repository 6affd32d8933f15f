"""Intervals of held-out numbers: a bootstrap over episodes, because samples of one episode are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEED = 0
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; `pairs` is how many samples it is of, `groups` how many episodes or scenes."""

    value: float
    low: float
    high: float
    pairs: int
    groups: int


def ratio_interval(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], groups: NDArray[np.str_]
) -> Interval | None:
    """sum(numerators) / sum(denominators), each [N]; rows with a NaN are left out. None where nothing is left.

    Args:
        groups: [N], what is drawn again as one: the episode, or the scene.
    """
    there = ~(np.isnan(numerators) | np.isnan(denominators))
    if not there.any() or not denominators[there].sum():
        return None
    _, group = np.unique(groups[there], return_inverse=True)
    count = int(group.max()) + 1
    above, below = (np.bincount(group, values[there], count) for values in (numerators, denominators))
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), DRAWS)
    sums = drawn @ below
    ratios = (drawn @ above)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(ratios, PERCENTILES).tolist()
    return Interval(float(above.sum() / below.sum()), low, high, int(there.sum()), count)


def mean_interval(values: NDArray[np.float64], groups: NDArray[np.str_]) -> Interval | None:
    """Mean of what is not NaN, as `ratio_interval`."""
    return ratio_interval(values, np.where(np.isnan(values), np.nan, 1.0), groups)
