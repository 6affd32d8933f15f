"""State channels that were filtered with later frames (rule L8), from every decoded episode.

A pose smoothed over the frames around it or over those that follow, a reading that is interpolated to a later clock, a
way still to go, a velocity as the difference of the frames around it: each is equal to no frame of any other channel,
and holds the future all the same. So a channel s is explained by the frames n-8..n+F of a reference x, by least
squares. Where all of these leave next to nothing, and those up to n leave far more, s knows later frames of x, or
drives x: a velocity, a force, a command that is followed later are honest. How x depends on s is undone by weights of
both signs; an average has weights of one sign. Findings are

- an average: weights of one sign, of x;
- a way: weights of one sign, of the steps of x. Those of the next frames alone are what a velocity gives, and none;
- the filters of Savitzky and Golay, smooth or as slopes, of the frames on both sides of n, to the digit: what physics
  gives is near them, and not equal.

Shapes: N frames, S channels of state, X references, T = 9 + F taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.numbers.kernels import Fit, Kernel, Taps
from pipeline.audit.lookahead.numbers.lags import LONG, RIVAL, Commands
from pipeline.audit.lookahead.numbers.references import STATE, FieldKey, FieldValues, Values

AHEAD = (8, 16, 24)
"""F: later frames. Of a short episode the nearer ones alone leave enough rows; of a long one the middle says nothing
that the others do not."""

LEFT = 1e-6
"""Share of variance that a filter may leave unexplained."""

ROWS = 4
"""Rows for each tap from which an episode is judged alone; half of it decides for all episodes together."""

_ROUNDING, _FEWEST = 1e-7, 4
"""Share of variance below which rounding decides; rows of an episode."""


@dataclass(frozen=True)
class Filtered:
    """State channel `channel` is the reference `name` filtered in the way `how`."""

    channel: int
    name: str
    how: str
    left: float
    rule: str = "L8"

    @property
    def same_as(self) -> tuple[object, ...]:
        """Equal for findings of other episodes that say the same; the frames of an average differ a little."""
        return "filtered", self.channel, self.name

    def __str__(self) -> str:
        what = f"{self.name} {self.how}"
        return f"state channel {self.channel} of frame n is {what}, known later ({self.left:.2g} of it differs)"


@dataclass
class FilterSums:
    """Centred sums of products over episodes of the state and one field.

    taps [X, T, T]  of x[n+i] and x[n+j];  cross [X, T, S]  of x[n+i] and s[n];  power [S]  of s[n]
    rows  that were summed
    """

    key: FieldKey
    ahead: int
    taps: Values
    cross: Values
    power: Values
    rows: int

    @classmethod
    def of(cls, state: Values, field: FieldValues, ahead: int) -> Self:
        """Of one episode: its state [N, S] and a field of it."""
        shape = Taps(ahead)
        values = field.values - field.values.mean(axis=0)
        rows, (width, channels) = len(values) - shape.count + 1, (values.shape[1], state.shape[1])
        if rows < _FEWEST or (ahead == AHEAD[1] and len(values) >= LONG):
            taps, cross = np.zeros((width, shape.count, shape.count)), np.zeros((width, shape.count, channels))
            return cls(field.key, ahead, taps, cross, np.zeros(channels), 0)
        windows = np.lib.stride_tricks.sliding_window_view(values, shape.count, axis=0)  # [rows, X, T]
        design = np.ascontiguousarray(windows.transpose(1, 0, 2))
        design -= design.mean(axis=1, keepdims=True)
        now = state[shape.now :][:rows]
        now = now - now.mean(axis=0)
        turned = design.transpose(0, 2, 1)
        return cls(field.key, ahead, turned @ design, turned @ now, (now**2).sum(axis=0), rows)

    def add(self, other: FilterSums) -> None:
        """Add those of other episodes with the same field."""
        for name in ("taps", "cross", "power", "rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def decides_alone(self) -> bool:
        """Whether the rows of one episode are enough."""
        return self.rows >= ROWS * Taps(self.ahead).count

    def filtered(self, busy: NDArray[np.bool_], commands: Commands, most: float = LEFT) -> Iterator[Filtered]:
        """For each channel the reference and filter that leave least, where that is a finding.

        Args:
            busy: bool [S], channels that change often enough.
            most: share of variance that a filter may leave; EXACT where one episode decides.
        """
        shape = Taps(self.ahead)
        if 2 * self.rows < ROWS * shape.count:
            return
        busy = busy if self.key.action else busy & ~commands.measured
        fit = Fit(self.taps, self.cross, self.power)
        past, full = fit.left(shape.past), fit.left(shape.all)
        known = (full > most) | (past < RIVAL * np.maximum(full, _ROUNDING)) | ~busy
        if self.key.kind == STATE:
            np.fill_diagonal(known, True)
        for channel in np.flatnonzero(~known.all(axis=0)).tolist():
            found = []
            for at in np.flatnonzero(~known[:, channel]).tolist():
                kernel = self._best(fit.pair(at, channel), shape, most)
                if kernel is not None:
                    found.append(Filtered(channel, self.key.channels[at], kernel.how, kernel.left))
            if found:
                yield min(found, key=lambda filtered: max(filtered.left, 1e-9))

    def _best(self, pair: Fit, shape: Taps, most: float) -> Kernel | None:
        """The filter that leaves least of a channel, where honest explanations leave far more."""
        kernels = [
            kernel
            for kernel in shape.kernels(pair)
            if kernel.left <= most and kernel.honest >= RIVAL * max(kernel.left, _ROUNDING)
        ]
        return min(kernels, key=lambda kernel: max(kernel.left, 1e-9), default=None)
