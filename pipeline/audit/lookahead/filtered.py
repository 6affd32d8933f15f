"""State channels that were filtered with later frames (rule L8), from every decoded episode.

A velocity as the difference of the frames around it, a pose smoothed over the frames around it, a reading that is
interpolated between its frame and the next: each is equal to no frame of any other channel, and holds the future all
the same. So a channel s is explained by the frames n-W..n+W of a reference x in several ways, by least squares:

- by filters that use later frames: weights alike on both sides of n (smoothed), opposite ones (differentiated), two
  later neighbours with weights of one sign (interpolated);
- by honest ones: frames up to n alone, and x[n], x[n+1], as x follows what drives it: v[n] = x[n+1] - x[n] in a
  simulator that adds a velocity to a position.

A filter is a finding when it leaves next to nothing and what is honest leaves far more. A smoothed channel whose three
weights around n are of different signs is the force that drives a mass, and none.

Shapes: N frames, S channels of state, X references, T = 2 W + 1 taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.lags import CHANGES_MEASURED, RIVAL, VALUES_MEASURED, References

Values = NDArray[np.float64]

REACH = 8
"""W: frames on each side."""

TAPS = 2 * REACH + 1

LEFT = 1e-4
"""Share of variance that a filter may leave unexplained."""

ALONE = 4 * TAPS
"""Frames besides the ends from which an episode is judged alone."""

_ROUNDING, _MINOR, _FEWEST, _NOTHING = 1e-7, 0.05, 4, 1e-12
"""Share of variance below which rounding decides; of a larger weight that the smaller must have; frames; variance of
nothing, as a share of the largest."""

_EYE = np.eye(TAPS)
_NOW = REACH
_PAST, _NEXT, _AROUND = _EYE[:, : _NOW + 1], _EYE[:, _NOW : _NOW + 2], _EYE[:, _NOW - 1 : _NOW + 2]
_SMOOTH = np.concatenate([_EYE[:, [_NOW]], _EYE[:, _NOW + 1 :] + _EYE[:, :_NOW][:, ::-1]], axis=1)
_SLOPE = _EYE[:, _NOW + 1 :] - _EYE[:, :_NOW][:, ::-1]


@dataclass(frozen=True)
class Filtered:
    """State channel `channel` is the reference `name` filtered in the way `how`."""

    channel: int
    name: str
    how: str
    left: float
    rule: str = "L8"

    def __str__(self) -> str:
        what = f"{self.name} {self.how}"
        return f"state channel {self.channel} of frame n is {what}, known later ({self.left:.2g} of it differs)"


@dataclass
class FilterSums:
    """Centred sums of products over episodes.

    taps [X, T, T]  of x[n+i] and x[n+j];  cross [X, T, S]  of x[n+i] and s[n];  power [S]  of s[n]
    frames  that were summed;  changes, values int64 [S]  as `lags.Moments` has them
    """

    names: tuple[str, ...]
    taps: Values
    cross: Values
    power: Values
    frames: int
    changes: NDArray[np.int64]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, references: References, channels: int) -> Self:
        """Of one episode; the first `channels` references are the state."""
        values = references.values - references.values.mean(axis=0)
        state = values[:, :channels]
        moved = np.abs(np.diff(state, axis=0)) > 1e-6 * np.maximum(np.abs(state).max(axis=0), 1e-30)
        different = np.array([len(np.unique(np.round(channel, 9))) for channel in state.T], np.int64)
        rows, width = len(values) - 2 * REACH, values.shape[1]
        if rows < _FEWEST:
            sums = np.zeros((width, TAPS, TAPS)), np.zeros((width, TAPS, channels)), np.zeros(channels)
            return cls(references.names, *sums, 0, moved.sum(axis=0), different)
        windows = np.lib.stride_tricks.sliding_window_view(values, TAPS, axis=0)  # [rows, X, T]
        design = np.ascontiguousarray(windows.transpose(1, 0, 2))
        design -= design.mean(axis=1, keepdims=True)
        now = state[REACH:-REACH] - state[REACH:-REACH].mean(axis=0)
        turned = design.transpose(0, 2, 1)
        sums = turned @ design, turned @ now, (now**2).sum(axis=0)
        return cls(references.names, *sums, rows, moved.sum(axis=0), different)

    def add(self, other: FilterSums) -> None:
        """Add those of another episode with the same references."""
        for name in ("taps", "cross", "power", "frames", "changes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.values = np.maximum(self.values, other.values)

    def filtered(self) -> Iterator[Filtered]:
        """For each channel the reference and filter that leave least, where that is a finding."""
        if self.frames < 2 * TAPS:
            return
        past, following = self._left(_PAST), self._left(_NEXT)
        around, smooth, slope = self._left(_AROUND), self._left(_SMOOTH), self._left(_SLOPE)
        one_sign = self._one_sign(_AROUND)
        driven = np.where(one_sign, 1.0, around)
        between = {later: self._between(later) for later in range(REACH)}
        for channel in range(len(self.power)):
            if self.changes[channel] < CHANGES_MEASURED or self.values[channel] < VALUES_MEASURED:
                continue
            found = []
            for at, name in enumerate(self.names):
                if at == channel:
                    continue
                honest = min(past[at, channel], following[at, channel])
                ways = [("differentiated over the frames around n", slope, honest)]
                ways.append(("smoothed over the frames around n", smooth, min(honest, driven[at, channel])))
                ways += [
                    (f"between the frames n+{later} and n+{later + 1}", left, past[at, channel])
                    for later, left in between.items()
                ]
                for how, left, rival in ways:
                    share = float(left[at, channel])
                    if share <= LEFT and rival >= RIVAL * max(share, _ROUNDING):
                        found.append(Filtered(channel, name, how, share))
            if found:
                yield min(found, key=lambda filtered: max(filtered.left, 1e-9))

    def _left(self, basis: Values) -> Values:
        """Share of the variance of s that weights in the span of a basis [T, M] leave, [X, S]."""
        _, explained = self._solved(basis)
        moves = self.power > 0
        return np.where(moves, np.clip(1 - explained / np.where(moves, self.power, 1), 0, 1), 1.0)

    def _solved(self, basis: Values) -> tuple[Values, Values]:
        """Weights [X, M, S] and the variance that they explain, [X, S]."""
        gram, cross = basis.T @ self.taps @ basis, basis.T @ self.cross
        own = np.einsum("xmm->xm", gram)  # next to nothing where the frames on both sides cancel out
        size = np.sqrt(np.where(own > _NOTHING * own.max(axis=1, keepdims=True), own, np.inf))
        scaled = gram / (size[:, :, None] * size[:, None, :])
        right = cross / size[:, :, None]
        weights = np.linalg.pinv(scaled, rcond=1e-10, hermitian=True) @ right
        # Of these very weights, so that what rounding does to them leaves more and never less.
        explained = (weights * (2 * right - scaled @ weights)).sum(axis=1)
        return weights / size[:, :, None], explained

    def _one_sign(self, basis: Values) -> NDArray[np.bool_]:
        """Whether all weights have one sign and none is next to nothing, [X, S]."""
        weights, _ = self._solved(basis)
        least, most = weights.min(axis=1), weights.max(axis=1)
        return (np.sign(least) == np.sign(most)) & (
            np.minimum(np.abs(least), np.abs(most)) >= _MINOR * np.maximum(np.abs(least), np.abs(most))
        )

    def _between(self, later: int) -> Values:
        """What two neighbours with weights of one sign leave; 1 where the signs differ, [X, S]."""
        basis = _EYE[:, _NOW + later : _NOW + later + 2]
        return np.where(self._one_sign(basis), self._left(basis), 1.0)
