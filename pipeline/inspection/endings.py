"""A channel of the state that holds, at the first frame of every episode, what is known only at the last (rule L8):
the final pose, or how many frames there will be. Episode by episode it looks constant, so no lag shows it.

Shapes: N frames, S channels of state, X of other values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.lags import Values

MIN_EPISODES = 8
"""Episodes with different endings that are needed to tell."""

COPY, DIFFERENT = 1e-9, 1e-6
"""Share of the variance over the episodes that a copy leaves at most, and that the first value of the same reference
leaves at least. A robot that reaches for an object ends near its place, but never so near."""


class Endings:
    """Collects the first and the last state of every episode."""

    def __init__(self) -> None:
        self._first: list[Values] = []
        self._last: list[Values] = []

    def add(self, state: Values) -> None:
        """Add an episode: float64 [N, S]."""
        self._first.append(np.append(state[0], 0.0))
        self._last.append(np.append(state[-1], len(state) - 1.0))

    def matches(self) -> list[tuple[int, int]]:
        """Pairs of channels (a, b): the first value of a is the last value of b; b = S is the number of frames."""
        if len(self._first) < MIN_EPISODES:
            return []
        first, last = np.stack(self._first), np.stack(self._last)
        copies = (_unexplained(first[:, :-1], last) <= COPY) & (_unexplained(first[:, :-1], first) >= DIFFERENT)
        varied = [len(np.unique(channel)) >= MIN_EPISODES for channel in first[:, :-1].T]
        return [(a, int(copies[a].argmax())) for a, varies in enumerate(varied) if varies and copies[a].any()]


def _unexplained(state: NDArray[np.float64], values: Values) -> Values:
    """Share of variance over the episodes that an affine fit leaves, [S, X]; 1 where nothing varies."""
    a, b = state - state.mean(axis=0), values - values.mean(axis=0)
    power = (a**2).sum(axis=0)[:, None] * (b**2).sum(axis=0)
    varies = power > 1e-20
    return np.where(varies, 1 - (a.T @ b) ** 2 / np.where(varies, power, 1), 1.0)
