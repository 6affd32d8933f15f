"""A state that holds in the first frame what only the whole episode shows (rule L8): its end, its mean, its length.

Within an episode such a channel is constant; over the episodes it varies with how they end. Sums over episodes of the
first state and of the first, last and mean values of the references (the state itself, actions, other numbers) decide.
So does a channel that is scaled by its own episode: its mean and spread are the same in all. The last command says
nothing: of a scripted robot it is the place of an object that every frame shows.

S channels of state, X references, N frames.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from pipeline.audit.lookahead.lags import References

EPISODES = 8
"""Episodes, and different values of a channel, that are needed to tell."""

COPY, DIFFERENT = 1e-9, 1e-6
"""Share of the variance over the episodes that a copy may leave, and that the first value of the same reference must.
A robot that reaches for an object ends near its place, but never so near."""

OWN_SCALE = 1e-4
"""Mean of a channel scaled by its own episode, and difference of its spread from 1 or from that of another episode, as
a share of the spread."""

_NOTHING = 1e-20


class StateEndings:
    """Collects the ends of episodes. Memory does not grow with their number."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._origin, self._commanded = np.zeros(0), np.zeros(0, bool)
        self._count, self._sum, self._product = 0, np.zeros(0), np.zeros((0, 0))
        self._different: list[set[float]] = []
        self._spread, self._scaled = np.zeros(0), np.zeros(0, bool)

    def add(self, references: References, channels: int) -> None:
        """Add an episode; the first `channels` references are its state. Those with other references do not count."""
        values = references.values
        mean = values.mean(axis=0)
        ends = np.concatenate([values[0], values[-1], mean, [len(values) - 1]])
        own_mean, own_spread = np.abs(mean[:channels]), values[:, :channels].std(axis=0)
        if self._names is None:
            self._names, self._origin, self._sum = references.names, ends, np.zeros(len(ends))
            self._product = np.zeros((len(ends), len(ends)))
            self._different = [set() for _ in range(channels)]
            self._commanded = references.action
            self._spread, self._scaled = own_spread, own_spread > _NOTHING
        if references.names != self._names:
            return
        row = ends - self._origin  # small numbers keep their digits in sums of squares
        self._count += 1
        self._sum += row
        self._product += np.outer(row, row)
        self._scaled &= own_mean <= OWN_SCALE * self._spread
        self._scaled &= np.abs(own_spread - self._spread) <= OWN_SCALE * self._spread
        for different, value in zip(self._different, values[0, :channels].tolist(), strict=True):
            if len(different) < EPISODES:
                different.add(value)

    def merge(self, other: StateEndings) -> None:
        """Add the episodes of another part of the build."""
        if self._names is None:
            self.__dict__.update(copy.deepcopy(other.__dict__))
            return
        if other._names != self._names:
            return
        shift, own = other._origin - self._origin, other._sum
        cross = np.outer(own, shift)
        self._product += other._product + cross + cross.T + other._count * np.outer(shift, shift)
        self._sum += own + other._count * shift
        self._count += other._count
        self._scaled &= other._scaled & (np.abs(other._spread - self._spread) <= OWN_SCALE * self._spread)
        for different, values in zip(self._different, other._different, strict=True):
            different |= set(sorted(values)[: EPISODES - len(different)] if len(different) < EPISODES else ())

    def findings(self) -> Iterator[str]:
        """One line for each channel that knows the end."""
        if self._count < EPISODES or self._names is None:
            return
        covariance = self._product - np.outer(self._sum, self._sum) / self._count
        power = np.outer(covariance.diagonal(), covariance.diagonal())
        varies = power > _NOTHING
        left = np.where(varies, 1 - covariance**2 / np.where(varies, power, 1), 1.0)
        channels, width = len(self._different), len(self._names)
        first = left[:channels, :width]
        of_first = np.concatenate([first, first, np.ones((channels, 1))], axis=1)  # of the number of frames: all
        copies = (left[:channels, width:] <= COPY) & (of_first >= DIFFERENT)
        copies[:, :width] &= ~self._commanded
        for channel, different in enumerate(self._different):
            what = self._what(int(copies[channel].argmax())) if copies[channel].any() else ""
            if len(different) >= EPISODES and what:
                yield f"state channel {channel} of the first frame of an episode gives {what} ({self._count} episodes)"
            if len(different) >= EPISODES and self._scaled[channel]:
                yield f"state channel {channel} is scaled by its own episode, all of it ({self._count} episodes)"

    def _what(self, at: int) -> str:
        assert self._names is not None
        width = len(self._names)
        if at == 2 * width:
            return "how many frames follow"
        return f"{self._names[at % width]} {'of the last' if at < width else 'on average over all frames'}"
