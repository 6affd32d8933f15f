"""Statistics recomputed in bounded memory: moments are merged, claimed quantiles are verified by counting.

C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-9
"""Relative to the largest magnitude of a channel: float64 sums in another order differ by far less."""

QUANTILES = (("q01", 0.01), ("q99", 0.99))


@dataclass(frozen=True)
class Claim:
    """One of the two groups of stats.json; arrays are float64 [C]."""

    count: int
    values: dict[str, NDArray[np.float64]]


def parse_claim(value: Any, channels: int) -> Claim:
    """Read `{"count", "min", "max", "mean", "std", "q01", "q99"}`. Raises ValueError saying what is wrong."""
    names = ("min", "max", "mean", "std", "q01", "q99")
    if not isinstance(value, dict) or sorted(value) != sorted(("count", *names)):
        raise ValueError(f"must be an object with count, {', '.join(names)}")
    if type(value["count"]) is not int:
        raise ValueError(f"count must be an integer, found {value['count']!r:.80}")
    arrays = {}
    for name in names:
        numbers = value[name]
        if (
            not isinstance(numbers, list)
            or len(numbers) != channels
            or any(type(x) not in (int, float) for x in numbers)
        ):
            raise ValueError(f"{name} must be a list of {channels} numbers, found {numbers!r:.80}")
        arrays[name] = np.array(numbers, np.float64)
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} must be finite, found {numbers!r:.80}")
    return Claim(value["count"], arrays)


class Recount:
    """Streams over values [R, C] and compares them with a claim at the end."""

    def __init__(self, claim: Claim, channels: int) -> None:
        self._claim = claim
        self._count = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)
        self._quantiles = {name: _Quantile(claim.values[name]) for name, _ in QUANTILES}

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
        for quantile in self._quantiles.values():
            quantile.add(values)

    def differences(self) -> list[str]:
        """What the claim says differently, one text for each wrong entry."""
        if self._count != self._claim.count:
            return [f"count is {self._claim.count}, the train shards hold {self._count}"]
        if self._count == 0:
            return []
        scale = np.maximum(np.maximum(np.abs(self._low), np.abs(self._high)), np.finfo(np.float64).tiny)
        found = {"min": self._low, "max": self._high, "mean": self._mean, "std": np.sqrt(self._squares / self._count)}
        texts = [
            f"{name} is {self._claim.values[name].tolist()}, the train shards give {value.tolist()}"
            for name, value in found.items()
            if (np.abs(value - self._claim.values[name]) > TOLERANCE * scale).any()
        ]
        for name, share in QUANTILES:
            if not self._quantiles[name].holds(share, self._count, TOLERANCE * scale):
                texts.append(f"{name} is {self._claim.values[name].tolist()}, not the {share:.0%} quantile")
        return texts


class _Quantile:
    """Is a number the quantile of a stream? Counting the values below it and keeping its neighbours is enough.

    The quantile of N values by linear interpolation lies between order statistics floor(h) and floor(h)+1 with
    h = (N-1) * share. A claimed value fixes where it stands among the sorted values, so both can be named.
    """

    def __init__(self, claimed: NDArray[np.float64]) -> None:
        self._claimed = claimed
        self._slack = TOLERANCE * np.abs(claimed)
        self._below = np.zeros(len(claimed), np.int64)
        self._equal = np.zeros(len(claimed), np.int64)
        self._lower = np.full(len(claimed), -np.inf)
        self._upper = np.full(len(claimed), np.inf)

    def add(self, values: NDArray[np.float64]) -> None:
        below = values < self._claimed - self._slack
        above = values > self._claimed + self._slack
        self._below += below.sum(axis=0)
        self._equal += (~below & ~above).sum(axis=0)
        self._lower = np.maximum(self._lower, np.where(below, values, -np.inf).max(axis=0))
        self._upper = np.minimum(self._upper, np.where(above, values, np.inf).min(axis=0))

    def holds(self, share: float, count: int, tolerance: NDArray[np.float64]) -> bool:
        """True when every channel's claim is the quantile within the tolerance."""
        place = (count - 1) * share
        rank, part = math.floor(place), place - math.floor(place)
        low = self._order_statistic(rank)
        high = self._order_statistic(min(rank + 1, count - 1))
        with np.errstate(invalid="ignore"):  # infinities stand for "far away" and compare as a failure
            value = low * (1 - part) + (high * part if part else 0.0)
            return bool((np.abs(value - self._claimed) <= 2 * tolerance).all())

    def _order_statistic(self, rank: int) -> NDArray[np.float64]:
        """The sorted values' entry at `rank`, as far as it is known; infinite when it is far from the claim."""
        at_most = self._below + self._equal
        return np.select(
            [rank < self._below - 1, rank == self._below - 1, rank < at_most, rank == at_most],
            [np.full_like(self._lower, -np.inf), self._lower, self._claimed, self._upper],
            default=np.inf,
        )
