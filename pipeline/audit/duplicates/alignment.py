"""When two films show the same: frame t of one beside frame slope * t + start of the other.

The frames of one film are laid over those of the other and both compared by how they differ from the other's
background: that peaks along a line where one is a copy of the other.

A and C kept frames of the two films, P pixels of a reduced picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.films import evenly_spread
from pipeline.audit.duplicates.geometry import Pairing, Transform

MIN_SHARE = 0.5
"""Share of the shorter film that must have a counterpart."""

MIN_SCORE = 0.35
"""Mean similarity along a line from which the two films are compared in detail."""

LINES = 3
"""Lines compared in detail."""

REDUCTION = 3
"""Pixels of a picture to one of a reduced picture."""

_SLOPES = np.concatenate([sign * 2.0 ** (np.arange(-16, 17) / 8) for sign in (1, -1)])
_STEPS = (4.0, 2.0, 1.0, 0.5, 0.25)
_BACKGROUND_FRAMES = 48


@dataclass(frozen=True)
class Line:
    """Frame t of one film is frame slope * t + start of the other, both as positions among the kept frames."""

    slope: float
    start: float
    score: float

    def at(self, frames: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The other film's frames."""
        return np.asarray(self.slope * frames + self.start, np.float64)


def lines(own: NDArray[np.uint8], other: NDArray[np.uint8], found: Sequence[Pairing]) -> list[Line]:
    """The most likely lines, the best first.

    Args:
        own, other: pictures uint8 [A, H, W] and [C, H', W'].
        found: for some frames of the one, where they lie in the other.
    """
    best: dict[int, Pairing] = {}
    for pairing in found:
        if pairing.i not in best or len(pairing.own) > len(best[pairing.i].own):
            best[pairing.i] = pairing
    keys = np.array(sorted(best), np.int64)
    if len(keys) < 2:
        return []
    alike = _similarity([(own[i], best[i].transform) for i in keys.tolist()], other)
    rough = _search(alike, keys, len(own), len(other))
    exact = [_refined(line, alike, keys, len(own)) for line in rough]
    return sorted(exact, key=lambda line: -line.score)


def laid_over(picture: NDArray[np.uint8], transform: Transform, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A picture in the place of another of a shape (H, W), float32; NaN where it does not reach."""
    height, width = shape
    values = cv2.warpAffine(
        picture.astype(np.float32),
        transform,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )
    return np.asarray(values, np.float32)


def reduced(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel the mean of its area; NaN where a part is."""
    height, width = (side // REDUCTION for side in picture.shape)
    whole = picture[: height * REDUCTION, : width * REDUCTION]
    return whole.reshape(height, REDUCTION, width, REDUCTION).mean(axis=(1, 3))


def matched_brightness(
    picture: NDArray[np.float32], wanted: NDArray[np.float32], shown: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The picture with the contrast and brightness that bring it closest to another where it is shown."""
    a, b = picture[shown], wanted[shown]
    spread = float(a.std())
    gain = float(np.cov(a, b, bias=True)[0, 1]) / spread**2 if spread > 1e-3 else 0.0
    return (picture - a.mean()) * max(gain, 0.0) + b.mean()


def _similarity(keys: Sequence[tuple[NDArray[np.uint8], Transform]], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Cosine of each key frame and each frame of the other film, less its background, float32 [keys, C]."""
    small = np.stack([reduced(picture.astype(np.float32)) for picture in other])
    background = np.median(small[evenly_spread(len(small), _BACKGROUND_FRAMES)], axis=0)
    theirs = (small - background).reshape(len(small), -1)
    rows, shown = [], []
    for picture, transform in keys:
        over = reduced(laid_over(picture, transform, other.shape[1:]))
        visible = np.isfinite(over)
        if visible.mean() < 0.05:
            visible[:] = False
        filled = np.where(visible, over, 0)
        difference = matched_brightness(filled, background, visible) - background if visible.any() else filled
        rows.append(np.where(visible, difference, 0).ravel())
        shown.append(visible.ravel())
    mine, mask = np.stack(rows), np.stack(shown).astype(np.float32)
    power = np.sqrt((mine**2).sum(axis=1, keepdims=True) * (mask @ (theirs**2).T))
    return np.asarray((mine @ theirs.T) / np.maximum(power, 1e-3), np.float32)


def _search(alike: NDArray[np.float32], keys: NDArray[np.int64], own: int, other: int) -> list[Line]:
    """Lines of the highest mean similarity that cover enough of the shorter film."""
    candidates: list[Line] = []
    needed = MIN_SHARE * min(own, other)
    for slope in _SLOPES.tolist():
        ends = sorted((0.0, slope * (own - 1)))
        starts = np.arange(np.floor(-ends[1]), other - ends[0] + 1, 0.5)
        at = np.floor(slope * keys[None, :] + starts[:, None] + 0.5).astype(np.int64)
        inside = (at >= 0) & (at < other)
        values = alike[np.arange(len(keys))[None, :], np.clip(at, 0, other - 1)] * inside
        overlap = np.minimum(starts + ends[1], other - 1) - np.maximum(starts + ends[0], 0) + 1
        shared = np.minimum(overlap, overlap / abs(slope)) if abs(slope) < 1 else overlap / abs(slope)
        enough = (inside.sum(axis=1) >= 2) & (np.where(other < own, overlap, shared) >= needed)
        score = np.where(enough, values.sum(axis=1) / np.maximum(inside.sum(axis=1), len(keys) / 3), -1)
        for place in np.argsort(-score)[:LINES]:
            candidates.append(Line(slope, float(starts[place]), float(score[place])))
    return _different(sorted(candidates, key=lambda line: -line.score), own)


def _refined(line: Line, alike: NDArray[np.float32], keys: NDArray[np.int64], own: int) -> Line:
    """The line near this one along which the similarity, interpolated between frames, is highest."""
    last = max(own - 1, 1)
    ends = line.at(np.array([0.0, last]))
    best = _along(alike, keys, ends, last)
    for step in _STEPS:
        for move in (np.array(shift) * step for shift in ((1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))):
            while (score := _along(alike, keys, ends + move, last)) > best + 1e-6:
                ends, best = ends + move, score
    return Line(float(ends[1] - ends[0]) / last, float(ends[0]), best)


def _along(alike: NDArray[np.float32], keys: NDArray[np.int64], ends: NDArray[np.float64], last: int) -> float:
    at = ends[0] + (ends[1] - ends[0]) * keys / last
    inside = (at > -0.5) & (at < alike.shape[1] - 0.5)
    if not inside.any():
        return -1.0
    at = np.clip(at[inside], 0, alike.shape[1] - 1)
    rows, low = np.flatnonzero(inside), np.floor(at).astype(np.int64)
    high, part = np.minimum(low + 1, alike.shape[1] - 1), at - low
    values = (1 - part) * alike[rows, low] + part * alike[rows, high]
    return float(values.sum() / max(int(inside.sum()), len(keys) / 3))


def _different(candidates: Sequence[Line], own: int) -> list[Line]:
    """The best lines that are not neighbours of a better one."""
    kept: list[Line] = []
    ends = np.array([0.0, own - 1.0])
    for line in candidates:
        if line.score < MIN_SCORE or len(kept) == LINES:
            break
        if all(np.abs(line.at(ends) - other.at(ends)).max() > 3 for other in kept):
            kept.append(line)
    return kept
