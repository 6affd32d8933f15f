"""State channels that an exponential filter made which ran from the end of the episode to its beginning (rule L8).

Such a filter reaches over all later frames: s[n] = a x[n] + (1 - a) s[n+1]. Forwards in time it is a system that blows
up: s[n+1] - s[n] = w s[n] + v x[n] with w = a / (1 - a) above zero. What is filtered by its past, or moves by physics,
comes to rest or keeps going: there w is at most zero. A wave may follow such a line by its phase; then its own past
tells as much.

Shapes: S channels of state, X references.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.numbers.filtered import LEFT, Filtered
from pipeline.audit.lookahead.numbers.lags import RIVAL, Commands
from pipeline.audit.lookahead.numbers.references import STATE, FieldKey, FieldValues, Values

LEAST = 0.02
"""Smallest w: a share a of 2 %."""

_ROUNDING, _FEWEST, _ROWS = 1e-7, 8, 64
"""Share of variance below which rounding decides; rows of an episode; rows in all."""

_STEP, _NOW, _BEFORE, _BEFORE_THAT, _INPUT, _INPUT_BEFORE = range(6)


@dataclass
class Recursion:
    """Centred sums of products over episodes.

    own [S, 4, 4]  of s[n+1] - s[n], s[n], s[n] - s[n-1], s[n-1] - s[n-2]
    inputs [X, 2, 2]  of x[n], x[n-1];  cross [S, 4, X, 2]
    """

    key: FieldKey
    own: Values
    inputs: Values
    cross: Values
    rows: int

    @classmethod
    def of(cls, state: Values, field: FieldValues) -> Self:
        """Of one episode: its state [N, S] and a field of it."""
        rows, (channels, width) = len(state) - 3, (state.shape[1], field.key.width)
        if rows < _FEWEST:
            return cls(
                field.key, np.zeros((channels, 4, 4)), np.zeros((width, 2, 2)), np.zeros((channels, 4, width, 2)), 0
            )
        steps = np.diff(state, axis=0)
        own = np.stack([steps[2:], state[2:-1], steps[1:-1], steps[:-2]], axis=2)  # [rows, S, 4]
        inputs = np.stack([field.values[2:-1], field.values[1:-2]], axis=2)  # [rows, X, 2]
        own, inputs = own - own.mean(axis=0), inputs - inputs.mean(axis=0)
        cross = own.reshape(rows, -1).T @ inputs.reshape(rows, -1)
        a, b = own.transpose(1, 2, 0), inputs.transpose(1, 2, 0)
        sums = a @ a.transpose(0, 2, 1), b @ b.transpose(0, 2, 1), cross.reshape(channels, 4, width, 2)
        return cls(field.key, *sums, rows)

    def add(self, other: Recursion) -> None:
        """Add those of other episodes with the same field."""
        for name in ("own", "inputs", "cross", "rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def filtered(self, busy: NDArray[np.bool_], commands: Commands) -> Iterator[Filtered]:
        """For each channel the reference that leaves least, where that is a finding. busy: bool [S]."""
        if self.rows < _ROWS:
            return
        left, weights = self._fit((_NOW, _INPUT))
        known, _ = self._fit((_NOW, _BEFORE, _BEFORE_THAT, _INPUT_BEFORE))
        found = (left <= LEFT) & (known >= RIVAL * np.maximum(left, _ROUNDING)) & (weights[..., 0] >= LEAST)
        found &= (busy if self.key.action else busy & ~commands.measured)[:, None]
        if self.key.kind == STATE:
            np.fill_diagonal(found, False)
        for channel in np.flatnonzero(found.any(axis=1)).tolist():
            at = int(np.where(found[channel], left[channel], np.inf).argmin())
            how = "smoothed by a filter that runs backwards"
            yield Filtered(channel, self.key.channels[at], how, float(left[channel, at]))

    def _fit(self, of: tuple[int, ...]) -> tuple[Values, Values]:
        """Share of the variance of the step that these leave, [S, X], and their weights [S, X, M]."""
        channels, width = len(self.own), self.key.width
        sums = np.empty((channels, width, 6, 6))
        sums[:, :, :4, :4], sums[:, :, 4:, 4:] = self.own[:, None], self.inputs
        sums[:, :, :4, 4:] = self.cross.transpose(0, 2, 1, 3)
        sums[:, :, 4:, :4] = self.cross.transpose(0, 2, 3, 1)
        size = np.sqrt(np.einsum("sxii->sxi", sums))
        size = np.where(size > 0, size, np.inf)
        scaled = sums / (size[..., :, None] * size[..., None, :])
        gram, right = scaled[:, :, of][..., of], scaled[:, :, of, _STEP]
        weights = (np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ right[..., None])[..., 0]
        explained = (weights * (2 * right - (gram @ weights[..., None])[..., 0])).sum(axis=2)
        units = np.where(np.isfinite(size[..., :1]), size[..., :1], 0.0) / size[..., of]
        return np.clip(1 - explained, 0, 1), weights * units
