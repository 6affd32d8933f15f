"""Statistics of values too many to hold: exact, in bounded memory, by reading them twice.

The first reading gives count, minimum, maximum and the exact sums of the values and of their squares, and a histogram
of the upper halves of the float32 values' 32 bits, which determines the upper halves of the wanted order statistics.
The second reading counts the lower halves among these. Sums are integers, so that the result depends neither on the
order of the values nor on the processor. C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives all values at every call: chunks float32 [N, C], all finite, always in the same order."""

QUANTILES = {"q01": 1, "q99": 99}
"""Name -> per cent."""

_HALF = 1 << 16
_EXPONENTS = 256
_BIAS = 150
"""A float32 is a whole number of 24 bits times 2 ** (exponent - 150)."""


def summarise(chunks: Chunks) -> dict[str, Any] | None:
    """count, and for each channel min, max, mean, std (population), q01 and q99 (linear interpolation) in float64, each
    rounded from the exact value; see docs/formats.md.

    Returns:
        None when there are no values.
    """
    moments = _Moments()
    for chunk in chunks():
        moments.add(chunk)
    if moments.count == 0:
        return None
    ranks = sorted({rank for percent in QUANTILES.values() for rank in _ranks(moments.count, percent)})
    values = _order_statistics(chunks, moments.upper, ranks)
    quantiles = {name: _interpolate(values, moments.count, percent) for name, percent in QUANTILES.items()}
    found = {
        "min": moments.low,
        "max": moments.high,
        "mean": np.array(moments.means()),
        "std": np.sqrt(moments.variances()),
        **quantiles,
    }
    return {"count": moments.count} | {name: (array + 0.0).tolist() for name, array in found.items()}  # no -0.0


@dataclass
class _Moments:
    """Results of the first reading, of C channels.

    low, high  float64 [C]
    upper      int64 [C, 65536], how often each upper half of the ordered bits occurs
    sums       int64 [C, 256], sums of the values' whole numbers by their exponent
    squares    int64 [2, C, 256], the same of the squares, in two parts of 24 bits
    """

    count: int = 0

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Add the rows of a chunk."""
        if len(chunk) == 0:
            return
        wide = chunk.astype(np.float64)
        low, high = wide.min(axis=0), wide.max(axis=0)
        if self.count == 0:
            channels = chunk.shape[1]
            self.low, self.high = low, high
            self.upper = np.zeros((channels, _HALF), np.int64)
            self.sums = np.zeros((channels, _EXPONENTS), np.int64)
            self.squares = np.zeros((2, channels, _EXPONENTS), np.int64)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count += len(chunk)
        for channel, keys in enumerate(ordered_bits(chunk).T):
            self.upper[channel] += np.bincount(keys >> 16, minlength=_HALF)
            self._add_sums(channel, np.ascontiguousarray(chunk[:, channel]).view(np.uint32))

    def means(self) -> list[float]:
        """The exact sum over the count, rounded once."""
        return [total / (self.count << _BIAS) for total in map(_total, self.sums)]

    def variances(self) -> list[float]:
        """Of the population: mean of the squares minus square of the mean, rounded once."""
        tops = [
            self.count * ((_total(high, 2) << 24) + _total(low, 2)) - _total(sums) ** 2
            for sums, low, high in zip(self.sums, *self.squares, strict=True)
        ]
        return [top / (self.count**2 << 2 * _BIAS) for top in tops]

    def _add_sums(self, channel: int, bits: NDArray[np.uint32]) -> None:
        """bincount adds in float64, which is exact here: 2 ** 29 numbers below 2 ** 24 stay below 2 ** 53."""
        exponent, fraction = (bits >> 23) & 0xFF, (bits & 0x7FFFFF).astype(np.int64)
        whole = np.where(exponent > 0, fraction | 0x800000, fraction)
        exponent = np.maximum(exponent, 1)
        square = whole * whole
        parts = (np.where(bits >> 31, -whole, whole), square & 0xFFFFFF, square >> 24)
        for total, part in zip((self.sums, *self.squares), parts, strict=True):
            total[channel] += np.bincount(exponent, part, _EXPONENTS).astype(np.int64)


def _total(parts: NDArray[np.int64], power: int = 1) -> int:
    """Whole numbers by exponent [256] as one, in units of 2 ** -150 (of squares, power 2, 2 ** -300)."""
    return sum(part << power * exponent for exponent, part in enumerate(parts.tolist()))


def ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bits of float32 values, turned so that they sort as the values do."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _from_ordered(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)


def _ranks(count: int, percent: int) -> tuple[int, int]:
    """Places among the sorted values that a quantile is between."""
    place = (count - 1) * percent // 100
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


def _interpolate(values: dict[int, NDArray[np.float64]], count: int, percent: int) -> NDArray[np.float64]:
    low, high = _ranks(count, percent)
    return values[low] + (values[high] - values[low]) * ((count - 1) * percent % 100 / 100)
