"""Statistics of values too many to hold: exact, in bounded memory, by reading them twice.

The first reading gives count, minimum, maximum, mean and variance, and a histogram of the upper halves of the float32
values' 32 bits, which determines the upper halves of the wanted order statistics. The second reading counts the lower
halves among these. Chunks are always read in one order. C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives all values at every call: chunks float32 [N, C], all finite, always in the same order."""

QUANTILES = {"q01": 0.01, "q99": 0.99}
_HALF = 1 << 16


def summarise(chunks: Chunks) -> dict[str, Any] | None:
    """count, and for each channel min, max, mean, std (population), q01 and q99 (linear interpolation) in float64.

    Returns:
        None when there are no values.
    """
    moments = _Moments()
    for chunk in chunks():
        moments.add(chunk)
    if moments.count == 0:
        return None
    ranks = sorted({rank for share in QUANTILES.values() for rank in _ranks(moments.count, share)})
    values = _order_statistics(chunks, moments.upper, ranks)
    quantiles = {name: _interpolate(values, moments.count, share) for name, share in QUANTILES.items()}
    found = {
        "min": moments.low,
        "max": moments.high,
        "mean": moments.mean,
        "std": np.sqrt(moments.squares / moments.count),
        **quantiles,
    }
    return {"count": moments.count} | {name: array.tolist() for name, array in found.items()}


@dataclass
class _Moments:
    """Results of the first reading. Arrays are [C]; upper int64 [C, 65536] counts upper halves of the ordered bits."""

    count: int = 0

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Merge a chunk (Chan, Golub and LeVeque 1979, pairwise update of mean and sum of squares)."""
        if len(chunk) == 0:
            return
        wide = chunk.astype(np.float64)
        mean, low, high = wide.mean(axis=0), wide.min(axis=0), wide.max(axis=0)
        squares = ((wide - mean) ** 2).sum(axis=0)
        if self.count == 0:
            self.mean, self.squares, self.low, self.high = mean, squares, low, high
            self.upper = np.zeros((chunk.shape[1], _HALF), np.int64)
        else:
            total = self.count + len(chunk)
            delta = mean - self.mean
            self.squares = self.squares + squares + delta**2 * self.count * len(chunk) / total
            self.mean = self.mean + delta * len(chunk) / total
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count += len(chunk)
        for channel, keys in enumerate(ordered_bits(chunk).T):
            self.upper[channel] += np.bincount(keys >> 16, minlength=_HALF)


def ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bits of float32 values, turned so that they sort as the values do."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _from_ordered(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)


def _ranks(count: int, share: float) -> tuple[int, int]:
    """Places among the sorted values that a quantile is between."""
    place = math.floor((count - 1) * share)
    return place, min(place + 1, count - 1)


def _order_statistics(chunks: Chunks, upper: NDArray[np.int64], ranks: list[int]) -> dict[int, NDArray[np.float64]]:
    """The values at some places of the sorted channels: rank -> float64 [C]."""
    before = np.cumsum(upper, axis=1)
    halves = np.stack([(before <= rank).sum(axis=1) for rank in ranks])  # [ranks, C]
    counts = {(c, int(half)): np.zeros(_HALF, np.int64) for row in halves for c, half in enumerate(row)}
    for chunk in chunks():
        bits = ordered_bits(chunk)
        for (channel, half), seen in counts.items():
            column = bits[:, channel]
            seen += np.bincount(column[column >> 16 == half] & (_HALF - 1), minlength=_HALF)
    found: dict[int, NDArray[np.float64]] = {}
    for rank, row in zip(ranks, halves, strict=True):
        keys = np.empty(len(row), np.uint32)
        for channel, half in enumerate(row.tolist()):
            left = rank - (before[channel, half] - upper[channel, half])
            lower = int((np.cumsum(counts[channel, half]) <= left).sum())
            keys[channel] = (half << 16) | lower
        found[rank] = _from_ordered(keys).astype(np.float64)
    return found


def _interpolate(values: dict[int, NDArray[np.float64]], count: int, share: float) -> NDArray[np.float64]:
    low, high = _ranks(count, share)
    part = (count - 1) * share - low
    return values[low] + (values[high] - values[low]) * part
