"""Statistics recomputed in bounded memory: moments are merged, claimed quantiles are verified by counting.

C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-9
"""Relative to the largest magnitude of a channel: float64 sums in another order differ by far less."""

QUANTILES = {"q01": 0.01, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", *QUANTILES)


def _parse(value: Any, channels: int) -> dict[str, NDArray[np.float64]]:
    """The arrays of a group of stats.json, float64 [C]. Raises ValueError that names what is wrong."""
    if not isinstance(value, dict) or sorted(value) != sorted(("count", *NAMES)):
        raise ValueError(f"must be an object with count, {', '.join(NAMES)}")
    if type(value["count"]) is not int:
        raise ValueError(f"count must be an integer, found {value['count']!r:.80}")
    arrays = {}
    for name in NAMES:
        numbers = value[name]
        whole = isinstance(numbers, list) and all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
        if not whole or len(numbers) != channels:
            raise ValueError(f"{name} must be a list of {channels} finite numbers, found {numbers!r:.80}")
        arrays[name] = np.array(numbers, np.float64)
    return arrays


class Recount:
    """Streams over values [R, C] and compares them with a group of stats.json at the end.

    A claimed quantile is verified by counting the values below and equal to it and keeping its two neighbours: they are
    the order statistics around it. Arrays of quantiles are [2, C].

    Args:
        claim: `{"count", "min", "max", "mean", "std", "q01", "q99"}`.

    Raises:
        ValueError: the claim is no such group; the message names what is wrong.
    """

    def __init__(self, claim: Any, channels: int) -> None:
        self._claim = _parse(claim, channels)
        self.claimed, self._count = claim["count"], 0
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._quantile = np.stack([self._claim[name] for name in QUANTILES])
        self._below, self._equal = np.zeros((2, *self._quantile.shape), np.int64)
        self._lower, self._upper = np.full_like(self._quantile, -np.inf), np.full_like(self._quantile, np.inf)

    def add(self, values: NDArray[np.float64]) -> None:
        """Merge a chunk (Chan, Golub and LeVeque 1979, pairwise update of mean and sum of squares)."""
        if len(values) == 0:
            return
        total = self._count + len(values)
        mean = values.mean(axis=0)
        delta = mean - self._mean
        self._squares += ((values - mean) ** 2).sum(axis=0) + delta**2 * self._count * len(values) / total
        self._mean += delta * len(values) / total
        self._count = total
        self._low = np.minimum(self._low, values.min(axis=0))
        self._high = np.maximum(self._high, values.max(axis=0))
        slack = TOLERANCE * np.abs(self._quantile)
        for i, quantile in enumerate(self._quantile):
            below, above = values < quantile - slack[i], values > quantile + slack[i]
            self._below[i] += below.sum(axis=0)
            self._equal[i] += (~below & ~above).sum(axis=0)
            self._lower[i] = np.maximum(self._lower[i], np.where(below, values, -np.inf).max(axis=0))
            self._upper[i] = np.minimum(self._upper[i], np.where(above, values, np.inf).min(axis=0))

    def differences(self) -> list[str]:
        """Where the claim differs, one text for each wrong entry."""
        if self._count != self.claimed:
            return [f"count is {self.claimed}, the train shards hold {self._count}"]
        if self._count == 0:
            return []
        scale = np.maximum(np.maximum(np.abs(self._low), np.abs(self._high)), np.finfo(np.float64).tiny)
        found = {"min": self._low, "max": self._high, "mean": self._mean, "std": np.sqrt(self._squares / self._count)}
        texts = [
            f"{name} is {self._claim[name].tolist()}, the train shards give {value.tolist()}"
            for name, value in found.items()
            if (np.abs(value - self._claim[name]) > TOLERANCE * scale).any()
        ]
        for i, (name, share) in enumerate(QUANTILES.items()):
            if not (np.abs(self._interpolated(i, share) - self._quantile[i]) <= 2 * TOLERANCE * scale).all():
                texts.append(f"{name} is {self._claim[name].tolist()}, not the {share:.0%} quantile")
        return texts

    def _interpolated(self, i: int, share: float) -> NDArray[np.float64]:
        """The quantile, interpolated between order statistics floor(h) and floor(h) + 1 with h = (N - 1) share."""
        place = (self._count - 1) * share
        rank, part = math.floor(place), place - math.floor(place)
        low, high = self._order_statistic(i, rank), self._order_statistic(i, min(rank + 1, self._count - 1))
        with np.errstate(invalid="ignore"):  # infinite, or NaN from two infinities: far from the claim
            return low * (1 - part) + (high * part if part else 0.0)

    def _order_statistic(self, i: int, rank: int) -> NDArray[np.float64]:
        """The sorted values' entry at `rank`, as far as it is known; infinite when it is far from the claim."""
        below, at_most = self._below[i], self._below[i] + self._equal[i]
        return np.select(
            [rank < below - 1, rank == below - 1, rank < at_most, rank == at_most],
            [np.full_like(self._lower[i], -np.inf), self._lower[i], self._quantile[i], self._upper[i]],
            default=np.inf,
        )
