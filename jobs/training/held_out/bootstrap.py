"""Intervals of held-out numbers: a bootstrap over episodes, because samples of one episode are not independent.

Where a sample was measured with several partners, those are drawn again too: the interval holds the luck of their draw.

Letters: N samples, R partners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEED = 0
PERCENTILES = (2.5, 97.5)
AT_A_TIME = 4_000_000
"""Numbers of redrawn partners that are held in memory."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; `pairs` is how many samples, or pairs of samples, it is of, `groups` how many
    episodes or scenes."""

    value: float
    low: float
    high: float
    pairs: int
    groups: int


def ratio_interval(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], groups: NDArray[np.str_]
) -> Interval | None:
    """Sum of the numerators' means over partners / sum of the denominators. None where nothing is left.

    Args:
        numerators: [N] or [N, R]; a NaN is left out, and so is a sample all of whose numerators are.
        denominators: [N]; a sample with a NaN is left out.
        groups: [N], what is drawn again as one: the episode, or the scene.
    """
    above = numerators.reshape(len(numerators), -1)
    used = ~np.isnan(above).all(axis=1) & ~np.isnan(denominators)
    above, below = above[used], denominators[used]
    if not used.any() or not below.sum():
        return None
    names, group = np.unique(groups[used], return_inverse=True)
    count, there = len(names), ~np.isnan(above)
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(count, np.full(count, 1 / count), DRAWS)
    sums = drawn @ np.bincount(group, below, count)
    ratios = _redrawn(np.where(there, above, 0), there, drawn[:, group], rng)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(ratios, PERCENTILES).tolist()
    value = (np.nansum(above, axis=1) / there.sum(axis=1)).sum() / below.sum()
    return Interval(float(value), low, high, int(there.sum()), count)


def mean_interval(values: NDArray[np.float64], groups: NDArray[np.str_]) -> Interval | None:
    """Mean of what is not NaN, [N] or [N, R], as `ratio_interval`."""
    return ratio_interval(values, np.ones(len(values)), groups)


def _redrawn(
    values: NDArray[np.float64], there: NDArray[np.bool_], weights: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Sums of the samples' means over partners that are drawn again, as many as there are: float64 [DRAWS].

    Args:
        values: [N, R], 0 where there is none.
        there: [N, R].
        weights: [DRAWS, N], how often each sample counts.
    """
    counts = there.sum(axis=1)
    if (counts == 1).all():
        return weights @ values.sum(axis=1)
    shares, size = there / counts[:, None], max(1, AT_A_TIME // values.size)
    sums = []
    for first in range(0, len(weights), size):
        part = weights[first : first + size]
        partners = rng.multinomial(counts, shares, (len(part), len(counts)))
        sums.append((part * np.einsum("dnr,nr->dn", partners, values) / counts).sum(axis=1))
    return np.concatenate(sums)
