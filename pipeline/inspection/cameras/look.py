"""What the checks of a camera are made from: small grey pictures of the frames that are looked at.

F frames, in stretches of neighbours; C cells a side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELLS = 64
"""A side of the small pictures."""

MAX_FRAMES, STRETCHES = 256, 4
"""Frames of an episode and camera that are looked at: all, or so many evenly spread stretches of neighbours."""

DARK, BRIGHT, COVERED = 12, 250, 0.98
"""A frame is dark (bright) when this share of its cells is at most (at least) this grey level, of 0..255."""

KEYS, KEY_CELLS = 8, 16
"""Pictures that are kept to find duplicates, evenly spread, and a side of them."""

_DECODED = 32
"""Frames that are decoded at a time."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class CameraLook:
    """One camera in one episode.

    frames      int64 [F], their numbers
    level       float64 [F], mean grey level
    dark, bright  bool [F]
    change      float64 [F], largest change of a cell since the frame before, grey levels; NaN at a stretch's first
    energy      float64 [F], mean change of the cells, NaN as above
    likeness    float64 [F], correlation with the frame before (means removed), NaN as above
    away        float64 [2, F], mean difference to the first and to the last frame looked at, grey levels
    keys        uint8 [KEYS, KEY_CELLS, KEY_CELLS]
    """

    frames: NDArray[np.int64]
    level: Values
    dark: NDArray[np.bool_]
    bright: NDArray[np.bool_]
    change: Values
    energy: Values
    likeness: Values
    away: Values
    keys: NDArray[np.uint8]

    @classmethod
    def of(cls, num_frames: int, decode: Callable[[Sequence[int]], NDArray[np.uint8]]) -> Self:
        """Look at a camera. decode: frame numbers -> uint8 [n, H, W, 3]; raises EpisodeError."""
        numbers = frames_to_look_at(num_frames)
        pieces = [numbers[at : at + _DECODED].tolist() for at in range(0, len(numbers), _DECODED)]
        return cls.of_cells(numbers, np.concatenate([small(decode(piece)) for piece in pieces]))

    @classmethod
    def of_cells(cls, frames: NDArray[np.int64], cells: NDArray[np.uint8]) -> Self:
        """From small pictures, uint8 [F, C, C]."""
        values = cells.reshape(len(cells), -1).astype(np.float32)
        starts = np.diff(frames, prepend=frames[0] - 2) != 1
        steps = np.abs(np.diff(values, axis=0, prepend=values[:1]))
        change, energy = (np.where(starts, np.nan, found) for found in (steps.max(axis=1), steps.mean(axis=1)))
        likeness = np.where(starts, np.nan, _correlation(values, np.concatenate([values[:1], values[:-1]])))
        away = np.stack([np.abs(values - values[0]).mean(axis=1), np.abs(values - values[-1]).mean(axis=1)])
        chosen = cells[np.linspace(0, len(cells) - 1, KEYS).round().astype(int)]
        side = cells.shape[1] // KEY_CELLS
        keys = chosen.reshape(KEYS, KEY_CELLS, side, KEY_CELLS, side).mean(axis=(2, 4)).round().astype(np.uint8)
        return cls(
            frames,
            values.mean(axis=1).astype(np.float64),
            (values <= DARK).mean(axis=1) >= COVERED,
            (values >= BRIGHT).mean(axis=1) >= COVERED,
            change.astype(np.float64),
            energy.astype(np.float64),
            likeness.astype(np.float64),
            away.astype(np.float64),
            keys,
        )


def frames_to_look_at(num_frames: int) -> NDArray[np.int64]:
    """int64 [F]: all frames, or STRETCHES of neighbours with MAX_FRAMES in all."""
    if num_frames <= MAX_FRAMES:
        return np.arange(num_frames)
    length = MAX_FRAMES // STRETCHES
    starts = np.linspace(0, num_frames - length, STRETCHES).round().astype(np.int64)
    return np.unique((starts[:, None] + np.arange(length)).ravel())


def small(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [F, H, W, 3] -> grey uint8 [F, CELLS, CELLS], each cell the mean of its part of the frame."""
    made = [Image.fromarray(frame).convert("L").resize((CELLS, CELLS), Image.Resampling.BOX) for frame in frames]
    return np.array([np.asarray(image) for image in made], np.uint8).reshape(-1, CELLS, CELLS)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row of [F, P] with its counterpart; 0 where one of them is blank."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    power = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.where(power > 1, (a * b).sum(axis=1) / np.maximum(power, 1), 0).astype(np.float32)
