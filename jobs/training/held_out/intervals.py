"""Intervals (95 %) of held-out numbers, over groups of samples: samples of one episode, or scene, are not independent.

How far a number would change with other groups tells a bootstrap. Where a sample was measured with several partners,
those are drawn again too, so that the interval holds the luck of their draw. A bootstrap's own percentiles are far too
narrow for few groups, and have no width where all are alike: a ratio gets Student's t for that many groups, a share
Wilson's interval for as many independent samples as would change as much. Fewer than `FEWEST` groups have none.

Letters: N samples, R partners, D draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 5
"""Groups that an interval needs."""
DRAWS = 2000
SEED = 0
AT_A_TIME = 4_000_000
"""Numbers of redrawn partners that are held in memory."""
LARGEST_LOGARITHM = 50.0
"""Of a bound over the value: wider says no more, and must stay finite."""
_UPPER = 0.975


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, None of fewer than `FEWEST` groups.

    pairs   how many samples, or pairs of samples, it is of
    groups  how many episodes or scenes
    """

    value: float
    low: float | None
    high: float | None
    pairs: int
    groups: int


@dataclass(frozen=True)
class _Estimate:
    """A ratio of sums, and how far it changes: `spread` is its standard error, NaN of one group."""

    value: float
    spread: float
    pairs: int
    samples: int
    groups: int


def ratio_interval(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], groups: NDArray[np.str_]
) -> Interval | None:
    """Sum of the numerators' means over partners / sum of the denominators. None where nothing is left.

    The interval is as wide on both sides in the logarithm: of a ratio of losses it stays above 0.

    Args:
        numerators: [N] or [N, R], not negative; a NaN is left out, and so is a sample all of whose numerators are.
        denominators: [N], not negative; a sample with a NaN is left out, and so is one of which all is 0.
        groups: [N], what is drawn again as one: the episode, or the scene.
    """
    found = _estimate(numerators, denominators, groups)
    if found is None:
        return None
    if found.groups < FEWEST or not found.value:
        return Interval(found.value, None, None, found.pairs, found.groups)
    factor = math.exp(min(LARGEST_LOGARITHM, _student(found.groups) * found.spread / found.value))
    return Interval(found.value, found.value / factor, found.value * factor, found.pairs, found.groups)


def share_interval(values: NDArray[np.float64], groups: NDArray[np.str_]) -> Interval | None:
    """Mean of what is not NaN, of values in 0..1, [N] or [N, R], as `ratio_interval`."""
    found = _estimate(values, np.ones(len(values)), groups)
    if found is None or found.groups < FEWEST:
        return None if found is None else Interval(found.value, None, None, found.pairs, found.groups)
    # As in Korn and Graubard (1998): as many samples as change as much, fewer by what t is above the normal's; of
    # groups that are all alike nothing tells that their samples are more than one each.
    size: float = found.groups
    if found.spread > 1e-9:
        size = min(found.samples, found.value * (1 - found.value) / found.spread**2)
    low, high = _wilson(found.value, size * (_normal() / _student(found.groups)) ** 2)
    return Interval(found.value, low, high, found.pairs, found.groups)


def _estimate(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], groups: NDArray[np.str_]
) -> _Estimate | None:
    above = numerators.reshape(len(numerators), -1)
    used = (
        ~np.isnan(above).all(axis=1) & ~np.isnan(denominators) & ((denominators > 0) | (np.nansum(above, axis=1) > 0))
    )
    above, below = above[used], denominators[used]
    if not used.any() or not below.sum():
        return None
    names, group = np.unique(groups[used], return_inverse=True)
    count, there = len(names), ~np.isnan(above)
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(count, np.full(count, 1 / count), DRAWS)
    sums = drawn @ np.bincount(group, below, count)
    ratios = _redrawn(np.where(there, above, 0), there, drawn[:, group], rng)[sums > 0] / sums[sums > 0]
    spread = float(ratios.std()) * math.sqrt(count / (count - 1)) if count > 1 else math.nan
    value = (np.nansum(above, axis=1) / there.sum(axis=1)).sum() / below.sum()
    return _Estimate(float(value), spread, int(there.sum()), len(above), count)


def _student(groups: int) -> float:
    from scipy.special import stdtrit  # here: it takes longer than all else that a training imports for these numbers

    return float(stdtrit(groups - 1, _UPPER))


def _normal() -> float:
    from scipy.special import ndtri

    return float(ndtri(_UPPER))


def _wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `size` samples, which need be no whole number."""
    z = _normal() ** 2 / size
    middle, half = share + z / 2, math.sqrt(z * share * (1 - share) + z * z / 4)
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


def _redrawn(
    values: NDArray[np.float64], there: NDArray[np.bool_], weights: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Sums of the samples' means over partners that are drawn again, as many as there are: float64 [D].

    Args:
        values: [N, R], 0 where there is none.
        there: [N, R].
        weights: [D, N], how often each sample counts.
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
