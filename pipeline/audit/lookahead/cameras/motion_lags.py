"""When two things move: correlations of how much they change from frame to frame, at every lag.

N frames, L = 2 LAGS + 1 lags: the first at n+lag and the second at n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.pose_regression import LAGS, Values

CLEAR = 0.4
"""Correlation that tells."""

AGREE = 0.6
"""Share of the episodes whose own lag must be within a frame of the common one."""

MIN_FRAMES = 24
"""Of an episode that counts."""

_REST = 1e-3


@dataclass
class LagSums:
    """Summed over episodes: correlations [L] weighted by frames; best [L], episodes that have their largest there."""

    correlations: Values
    frames: int
    best: NDArray[np.int64]

    @classmethod
    def of(cls, first: Values, second: Values) -> Self | None:
        """Of one episode, [N] each; None where either rests."""
        own = np.array([_correlation(first, second, lag) for lag in range(-LAGS, LAGS + 1)])
        if not own.any():
            return None
        best = np.zeros(2 * LAGS + 1, np.int64)
        best[own.argmax()] = 1
        return cls(own * len(first), len(first), best)

    def add(self, other: LagSums) -> None:
        """Add those of other episodes."""
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def told(self) -> Values:
        """Share of variance that is told at each lag, [L]; 0 where the correlation is negative, or says nothing."""
        mean = np.maximum(self.correlations / max(1, self.frames), 0.0)
        return np.asarray(np.where(mean.max() >= CLEAR, mean**2, 0.0))

    @property
    def agree(self) -> bool:
        """Whether most episodes have the same lag."""
        at = int(self.correlations.argmax())
        return bool(self.best[max(0, at - 1) : at + 2].sum() >= AGREE * self.best.sum())


def speed(values: Values) -> Values:
    """How far all channels move from frame to frame, each as a share of its extent, as a logarithm, [N]."""
    scaled = _scaled(values)
    moved = np.zeros(len(values))
    moved[1:] = np.abs(np.diff(scaled, axis=0)).sum(axis=1)
    return np.asarray(np.log(moved + _REST))


def size(values: Values) -> Values:
    """How large the channels are, each as a share of its extent, as a logarithm, [N]: a change moves by its size."""
    return np.asarray(np.log(np.abs(_scaled(values)).sum(axis=1) + _REST))


def _scaled(values: Values) -> Values:
    extent = np.ptp(values, axis=0)
    lively = extent > 1e-9
    return np.asarray(values[:, lively] / extent[lively])


def _correlation(first: Values, second: Values, lag: int) -> float:
    begin, end = max(1, 1 - lag), min(len(second), len(second) - lag)
    a, b = first[begin + lag : end + lag], second[begin:end]
    if len(a) < MIN_FRAMES // 2 or a.std() <= 1e-9 or b.std() <= 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
