"""Statistics recomputed in bounded memory and compared to the last digit: docs/formats.md defines each number.

Sums are exact: every float32 is a whole number of 24 bits times a power of two, so sums by exponent are whole numbers.
Claimed quantiles are verified by counting. C channels.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.format.json.documents import StatisticsContent

QUANTILES = {"q01": 1, "q99": 99}
"""Name -> per cent."""

NAMES = ("min", "max", "mean", "std", *QUANTILES)

_DIGITS = 24
"""Bits of a float32's whole number."""

_OFFSET = 200
"""Added to exponents of `frexp`, which are above -149 for a float32, so that they count from 0."""

_POWERS = _OFFSET + 130


class Recount:
    """Streams over values [R, C] and compares them with a group of stats.json at the end.

    A claimed quantile is verified by counting the values below and equal to it and keeping its two neighbours: they are
    the order statistics around it. Arrays of quantiles are [2, C].

    Args:
        claim: a group of stats.json whose shape was checked.

    Raises:
        ValueError: it has another number of channels; the message names what is wrong.
    """

    def __init__(self, claim: StatisticsContent, channels: int) -> None:
        values: dict[str, Any] = {**claim}
        for name in NAMES:
            if len(values[name]) != channels:
                raise ValueError(f"{name} must be a list of {channels} numbers, found {len(values[name])}")
        self._claim = {name: np.array(values[name], np.float64) for name in NAMES}
        self.claimed = claim["count"]
        self._quantile = np.stack([self._claim[name] for name in QUANTILES])
        self._clear()

    def _clear(self) -> None:
        self._count, channels = 0, self._quantile.shape[1]
        self._sums = np.zeros((3, channels, _POWERS), np.int64)  # of values; of squares, lower and upper 24 bits
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._below, self._equal = np.zeros((2, *self._quantile.shape), np.int64)
        self._lower, self._upper = np.full_like(self._quantile, -np.inf), np.full_like(self._quantile, np.inf)

    def add(self, values: NDArray[np.float64]) -> None:
        """Add rows; every value is a float32."""
        if len(values) == 0:
            return
        self._count += len(values)
        self._low = np.minimum(self._low, values.min(axis=0))
        self._high = np.maximum(self._high, values.max(axis=0))
        self._add_sums(values)
        for i, quantile in enumerate(self._quantile):
            below, above = values < quantile, values > quantile
            self._below[i] += below.sum(axis=0)
            self._equal[i] += (~below & ~above).sum(axis=0)
            self._lower[i] = np.maximum(self._lower[i], np.where(below, values, -np.inf).max(axis=0))
            self._upper[i] = np.minimum(self._upper[i], np.where(above, values, np.inf).min(axis=0))

    def empty(self) -> Recount:
        """One of the same claim that has seen nothing."""
        other = copy.copy(self)
        other._clear()
        return other

    def merge(self, other: Recount) -> None:
        """Add what another one of the same claim has seen: every sum is exact, so order changes no bit."""
        self._count += other._count
        self._sums += other._sums
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self._below += other._below
        self._equal += other._equal
        self._lower, self._upper = np.maximum(self._lower, other._lower), np.minimum(self._upper, other._upper)

    def differences(self) -> list[str]:
        """Where the claim differs, one text for each wrong entry."""
        if self._count != self.claimed:
            return [f"count is {self.claimed}, the train shards hold {self._count}"]
        if self._count == 0:
            return []
        mean, variance = np.array([self._moments(channel) for channel in range(len(self._low))]).T
        found = {"min": self._low, "max": self._high, "mean": mean, "std": np.sqrt(variance)}
        texts = [
            f"{name} is {self._claim[name].tolist()}, the train shards give {(value + 0.0).tolist()}"
            for name, value in found.items()
            if not _equal(self._claim[name], value)
        ]
        for i, (name, percent) in enumerate(QUANTILES.items()):
            if not _equal(self._quantile[i], self._interpolated(i, percent)):
                texts.append(f"{name} is {self._claim[name].tolist()}, not the {percent} % quantile")
        return texts

    def _add_sums(self, values: NDArray[np.float64]) -> None:
        """bincount adds in float64: exact, as 2 ** 29 numbers below 2 ** 24 stay below 2 ** 53."""
        fraction, exponent = np.frexp(values)
        whole = np.ldexp(fraction, _DIGITS).astype(np.int64)
        parts = (whole, (whole * whole) & 0xFFFFFF, (whole * whole) >> 24)
        for total, part in zip(self._sums, parts, strict=True):
            for channel in range(values.shape[1]):
                counts = np.bincount(exponent[:, channel] + _OFFSET, part[:, channel], _POWERS)
                total[channel] += counts.astype(np.int64)

    def _moments(self, channel: int) -> tuple[float, float]:
        """Mean and variance of the population; each a quotient of whole numbers, rounded once."""
        first, lower, upper = (
            [part << exponent * power for exponent, part in enumerate(total[channel].tolist())]
            for total, power in zip(self._sums, (1, 2, 2), strict=True)
        )
        unit, count, total = 1 << (_OFFSET + _DIGITS), self._count, sum(first)
        squares = sum(lower) + (sum(upper) << 24)
        return total / (count * unit), (count * squares - total * total) / (count * unit) ** 2

    def _interpolated(self, i: int, percent: int) -> NDArray[np.float64]:
        """Between the order statistics at (N - 1) percent / 100, rounded down, and the one after it."""
        rank, rest = divmod((self._count - 1) * percent, 100)
        low, high = self._order_statistic(i, rank), self._order_statistic(i, min(rank + 1, self._count - 1))
        with np.errstate(invalid="ignore"):  # infinite, or NaN from two infinities: far from the claim
            return low + (high - low) * (rest / 100)

    def _order_statistic(self, i: int, rank: int) -> NDArray[np.float64]:
        """The sorted values' entry at `rank`, as far as it is known; infinite when it is far from the claim."""
        below, at_most = self._below[i], self._below[i] + self._equal[i]
        return np.select(
            [rank < below - 1, rank == below - 1, rank < at_most, rank == at_most],
            [np.full_like(self._lower[i], -np.inf), self._lower[i], self._quantile[i], self._upper[i]],
            default=np.inf,
        )


def _equal(claimed: NDArray[np.float64], found: NDArray[np.float64]) -> bool:
    """To the bit, and zero without a sign."""
    return claimed.tobytes() == (found + 0.0).tobytes()
