"""How well pictures tell the state some frames before and after: where they tell it best is when they were taken.

A linear map from the pixels of small pictures to the state, one for all episodes, at every lag. A camera that is on
time tells the state of its own frame, or one a little before.

P pixels of a picture, S channels of state, L = 2 LAGS + 1 lags: pictures at n+lag and the state at n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.thumbnails import SIDE

LAGS = 12
"""Frames that are searched to each side."""

GRID = 4
"""Pixels of a picture's side: few, so that what they tell is no chance."""

ROWS, TOLD = 20, 0.2
"""Frames for each pixel from which a map tells, and the share of the state's variance that it must explain."""

_RIDGE, _NOTHING = 1e-2, 1e-12

Values = NDArray[np.float64]


@dataclass
class PoseSums:
    """Centred sums of products over episodes: gram [P, P] of the pixels, cross [L, P, S], power [L, S] of the state."""

    gram: Values
    cross: Values
    power: Values
    rows: int

    @classmethod
    def of(cls, thumbnails: NDArray[np.uint8], state: Values) -> Self | None:
        """Of one episode: uint8 [N, SIDE, SIDE] and float64 [N, S]; None where it is too short."""
        frames, cell = len(state), SIDE // GRID
        rows = frames - 2 * LAGS
        if rows < LAGS:
            return None
        small = thumbnails.reshape(frames, GRID, cell, GRID, cell).astype(np.float64).mean(axis=(2, 4))
        pixels = small.reshape(frames, -1)[LAGS : frames - LAGS]
        pixels = pixels - pixels.mean(axis=0)
        # The state's rows in the order of the lags: the largest lag has the earliest state
        shifted = np.lib.stride_tricks.sliding_window_view(state, rows, axis=0)[::-1].transpose(0, 2, 1)
        shifted = shifted - shifted.mean(axis=1, keepdims=True)
        return cls(pixels.T @ pixels, pixels.T @ shifted, (shifted**2).sum(axis=1), rows)

    def add(self, other: PoseSums) -> None:
        """Add those of other episodes."""
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def told(self) -> Values:
        """Share of the state's variance that the pictures tell, mean over the channels that move, [L]."""
        ridge = _RIDGE * np.trace(self.gram) / len(self.gram)
        if self.rows < ROWS * GRID**2 or ridge <= _NOTHING:
            return np.zeros(len(self.power))
        weights = np.linalg.solve(self.gram + ridge * np.eye(len(self.gram)), self.cross)
        explained = (weights * (2 * self.cross - self.gram @ weights)).sum(axis=1)
        moves = self.power > _NOTHING
        share = np.where(moves, explained / np.where(moves, self.power, 1.0), 0.0)
        return np.asarray(share.sum(axis=1) / np.maximum(moves.sum(axis=1), 1))
