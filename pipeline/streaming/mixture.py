"""How builds share a global batch: a pure function of (weights, batch size, step).

Samples are assigned in units, one after the other. Each unit goes to the build that is furthest behind its weight:
after u units a build has its rounded share of u (Webster's method of apportionment). The counts after u units can be
computed directly for any u, so that a run resumes at any step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from pipeline.errors import SettingsError


class Mixture:
    """Samples of each build in the steps of a run.

    Args:
        weights: one per build, above 0; only their ratios matter.
        batch_size: G, samples of all builds in a step.
        unit: a batch holds whole units of gcd(unit, G) samples of each build. The number of ranks must divide it, so
            that every rank gets an equal share of every build. Ignored for a single build.

    Raises:
        SettingsError: a number is not positive.
    """

    def __init__(self, weights: Sequence[float], batch_size: int, unit: int = 8) -> None:
        for name, value in (("batch_size", batch_size), ("mixture_unit", unit)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise SettingsError(f"weights must be one number above 0 for each build, got {list(weights)}")
        self.batch_size = batch_size
        self.unit = batch_size if len(weights) == 1 else math.gcd(unit, batch_size)
        self._units = batch_size // self.unit
        exact = [Fraction(str(weight)) for weight in weights]
        scale = math.lcm(*(weight.denominator for weight in exact))
        self._weights = [int(weight * scale) for weight in exact]

    def check_ranks(self, world: int) -> None:
        """Raise SettingsError unless `world` ranks get equal shares of every build."""
        if self.batch_size % world:
            raise SettingsError(f"a global batch of {self.batch_size} cannot be divided among {world} ranks")
        if self.unit % world:
            raise SettingsError(
                f"builds share a batch in units of {self.unit} samples, which {world} ranks cannot divide; set "
                "trainer.mixture_unit to a multiple of the ranks (and trainer.batch_size to a multiple of that)"
            )

    def taken(self, step: int) -> tuple[int, ...]:
        """Samples of each build in steps 0..step-1."""
        return tuple(units * self.unit for units in self._apportion(step * self._units))

    def counts(self, step: int) -> tuple[int, ...]:
        """Samples of each build in one step; they sum to G."""
        before, after = self.taken(step), self.taken(step + 1)
        return tuple(b - a for a, b in zip(before, after, strict=True))

    def largest(self, build: int) -> int:
        """Upper bound of the samples of a build in one step, at most one unit too large."""
        share = Fraction(self._weights[build] * self._units, sum(self._weights))
        return min(self._units, math.ceil(share) + 1) * self.unit

    def _apportion(self, units: int) -> list[int]:
        """The first `units` of all claims (w / (2s + 1), s = 0, 1, …) in falling order, ties by the build's place."""
        weights, total = self._weights, sum(self._weights)
        had = [(2 * units * weight + total) // (2 * total) for weight in weights]  # the share, halves rounded up
        while sum(had) < units:
            had[max(range(len(had)), key=lambda i: (Fraction(weights[i], 2 * had[i] + 1), -i))] += 1
        while sum(had) > units:
            held = (i for i in range(len(had)) if had[i])
            had[min(held, key=lambda i: (Fraction(weights[i], 2 * had[i] - 1), -i))] -= 1
        return had
