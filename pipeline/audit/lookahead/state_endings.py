"""A state that holds in the first frame what only the last frame of the episode shows (rule L8): its pose, its number.

Within an episode such a channel is constant; over the episodes it varies with how they end. Sums over episodes of the
first and the last state (S channels of N frames) decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

EPISODES = 8
"""Episodes, and different values of a channel, that are needed to tell."""

COPY, DIFFERENT = 1e-9, 1e-6
"""Share of the variance over the episodes that a copy may leave, and that the first value of the same channel must.
A robot that reaches for an object ends near its place, but never so near."""

_NOTHING = 1e-20


class StateEndings:
    """Collects the ends of episodes. Memory does not grow with their number."""

    def __init__(self) -> None:
        self._origin = np.zeros(0)
        self._count, self._sum, self._product = 0, np.zeros(0), np.zeros((0, 0))
        self._different: list[set[float]] = []

    def add(self, state: NDArray[np.float32]) -> None:
        """Add an episode: its state [N, S]."""
        ends = np.concatenate([state[0], state[-1], [len(state) - 1]]).astype(np.float64)
        if not self._count:
            self._origin, self._sum = ends, np.zeros(len(ends))
            self._product = np.zeros((len(ends), len(ends)))
            self._different = [set() for _ in state[0]]
        row = ends - self._origin  # small numbers keep their digits in sums of squares
        self._count += 1
        self._sum += row
        self._product += np.outer(row, row)
        for different, value in zip(self._different, state[0].tolist(), strict=True):
            if len(different) < EPISODES:
                different.add(value)

    def merge(self, other: StateEndings) -> None:
        """Add the episodes of another part of the build."""
        if not other._count:
            return
        if not self._count:
            self._origin, self._count = other._origin.copy(), other._count
            self._sum, self._product = other._sum.copy(), other._product.copy()
            self._different = [set(values) for values in other._different]
            return
        shift, own = other._origin - self._origin, other._sum
        cross = np.outer(own, shift)
        self._product += other._product + cross + cross.T + other._count * np.outer(shift, shift)
        self._sum += own + other._count * shift
        self._count += other._count
        for different, values in zip(self._different, other._different, strict=True):
            different |= set(sorted(values)[: EPISODES - len(different)] if len(different) < EPISODES else ())

    def findings(self) -> Iterator[str]:
        """One line for each channel that knows the end."""
        if self._count < EPISODES:
            return
        covariance = self._product - np.outer(self._sum, self._sum) / self._count
        power = np.outer(covariance.diagonal(), covariance.diagonal())
        varies = power > _NOTHING
        left = np.where(varies, 1 - covariance**2 / np.where(varies, power, 1), 1.0)
        channels = len(self._different)
        of_first = np.append(left[:channels, :channels], np.ones((channels, 1)), axis=1)  # of the number of frames: all
        copies = (left[:channels, channels:] <= COPY) & (of_first >= DIFFERENT)
        for channel, different in enumerate(self._different):
            if len(different) >= EPISODES and copies[channel].any():
                at = int(copies[channel].argmax())
                what = "how many frames follow" if at == channels else f"state channel {at} of the last"
                yield f"state channel {channel} of the first frame of an episode gives {what} ({self._count} episodes)"
