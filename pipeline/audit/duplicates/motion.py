"""Whether two films move alike in detail, once they are laid over each other in place and time.

Two demonstrations of one task before one camera look alike, and so does their motion when it is looked at coarsely.
What a copy has besides is the fine structure of what moves, at the same place in the same frame.

N pairs of frames, H and W sides of the other film's pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.alignment import Line, laid_over, matched_brightness
from pipeline.audit.duplicates.film_points import FilmPoints
from pipeline.audit.duplicates.films import evenly_spread
from pipeline.audit.duplicates.geometry import Transform, pair_frames

PAIRS = 12
"""N: frames compared in detail."""

FINE = 3.0
"""Standard deviation in pixels of what counts as coarse."""

COARSE = 2.0
"""Pixels of a picture to one of the video from which the video is coarse: compression and noise take most of its fine
structure. It is smoothed over 0.7 pixels of the video, and structure of up to 2 of them counts as fine."""

MOVES = 3.0
"""Standard deviation over time of the fine structure, in grey levels, from which a pixel moves."""

MIN_MOVING = 40
"""Pixels that must move."""

MIN_PAIRS = 4
_NOISE = 4.0  # of a sensor, in grey levels: more is motion
_ABOVE_NOISE = 3.0
_BLURS = (0.7, 1.2, 2.0, -0.7, -1.2, -2.0)
_HOPELESS = 0.5  # no blur makes a copy of what is less alike
_MARGIN = 4


@dataclass(frozen=True)
class Motion:
    """How alike two films move.

    correlation  of the films as they are;  blurred  after blurring the sharper one, where that is more
    coarse       one of the films has few pixels
    pairs        frames compared: (position in one film, position in the other)
    """

    correlation: float
    blurred: float
    coarse: bool
    pairs: tuple[tuple[int, int], ...]


def compare_motion(own: FilmPoints, other: FilmPoints, line: Line, common: Transform | None) -> Motion | None:
    """The motion of two films along a line in time; None where too few frames can be laid over each other.

    Args:
        common: where every frame of the one lies in the other; None when it is not the same for all.
    """
    pairs = frame_pairs(line, len(own.film), len(other.film))
    mine, theirs = own.film.pictures, other.film.pictures
    if len(pairs) < min(MIN_PAIRS, len(mine), len(theirs)) or len(pairs) < 2:
        return None
    if common is not None:
        a, b = (stack[[pair[side] for pair in pairs]].mean(axis=0) for side, stack in enumerate((mine, theirs)))
        transforms = [refined(a.round().astype(np.uint8), b.round().astype(np.uint8), common)] * len(pairs)
    else:
        found = [(pair, pair_frames(own.points(pair[0]), other.points(pair[1]))) for pair in pairs]
        pairs = [pair for pair, pairing in found if pairing is not None]
        if len(pairs) < MIN_PAIRS:
            return None
        transforms = [
            refined(mine[i], theirs[j], pairing.transform) for (i, j), pairing in found if pairing is not None
        ]
    grain = max(own.film.grain, other.film.grain)
    return _correlated(mine, theirs, pairs, transforms, grain)


def frame_pairs(line: Line, own: int, other: int, most: int = PAIRS) -> list[tuple[int, int]]:
    """Frames on a line, evenly spread over what both films show."""
    if abs(line.slope) >= 1:
        frames = np.arange(own)
        pairs = [(int(i), int(np.floor(j + 0.5))) for i, j in zip(frames, line.at(frames), strict=True)]
    else:
        frames = np.arange(other)
        pairs = [(int(np.floor((j - line.start) / line.slope + 0.5)), int(j)) for j in frames]
    inside = [(i, j) for i, j in pairs if 0 <= i < own and 0 <= j < other]
    return [inside[at] for at in evenly_spread(len(inside), most)] if inside else []


def refined(own: NDArray[np.uint8], other: NDArray[np.uint8], transform: Transform) -> Transform:
    """The transform to a fraction of a pixel (enhanced correlation coefficient, Evangelidis and Psarakis 2008)."""
    back = cv2.invertAffineTransform(transform).astype(np.float32)
    limits = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
    try:
        _, better = cv2.findTransformECC(other, own, back, cv2.MOTION_AFFINE, limits, None, 5)
    except cv2.error:  # it does not converge where nothing has an edge
        return transform
    found = cv2.invertAffineTransform(better).astype(np.float64)
    corners = np.array([[0, 0, 1], [own.shape[1], 0, 1], [0, own.shape[0], 1]], np.float64)
    return found if np.abs(corners @ (found - transform).T).max() < 6 else transform


def _correlated(
    own: NDArray[np.uint8],
    other: NDArray[np.uint8],
    pairs: Sequence[tuple[int, int]],
    transforms: Sequence[Transform],
    grain: float,
) -> Motion:
    over = np.stack([laid_over(own[i], by, other.shape[1:]) for (i, _), by in zip(pairs, transforms, strict=True)])
    theirs = np.stack([other[j] for _, j in pairs]).astype(np.float32)
    shown = np.isfinite(over) & ~_nothing(over)
    triples = zip(over, theirs, shown, strict=True)
    matched = np.stack([np.where(s, matched_brightness(a, b, s), b) if s.any() else b for a, b, s in triples])
    edge = np.ones((2 * _MARGIN + 1,) * 2)
    mask = np.stack([cv2.erode(s.astype(np.float32), edge, borderValue=0) for s in shown])
    band = (0.7 * grain, 2 * grain) if grain >= COARSE else (0.0, FINE)
    correlation = _score(matched, theirs, mask, 0.0, band)
    best = correlation
    if correlation > _HOPELESS:
        best = max(correlation, *(_score(matched, theirs, mask, blur, band) for blur in _BLURS))
    return Motion(correlation, best, grain >= COARSE, tuple(pairs))


def _score(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    mask: NDArray[np.float32],
    blur: float,
    band: tuple[float, float],
) -> float:
    """Correlation of the fine motion where something moves. blur: > 0 of the one, < 0 of the other film."""
    a = _fine(_blurred(own, blur), band) * mask
    b = _fine(_blurred(other, -blur), band) * mask
    weight = np.maximum(mask.sum(axis=0), 1)
    a = (a - a.sum(axis=0) / weight) * mask
    b = (b - b.sum(axis=0) / weight) * mask
    power_a, power_b = (a**2).sum(axis=0) / weight, (b**2).sum(axis=0) / weight
    power = cv2.blur(np.maximum(power_a, power_b), (5, 5))
    noise = min(float(np.median(power)), _NOISE**2)
    moving = power > max(MOVES**2, _ABOVE_NOISE * noise)
    if int(moving.sum()) < MIN_MOVING:
        return 0.0
    a, b = a[:, moving], b[:, moving]
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-6))


def _fine(pictures: NDArray[np.float32], band: tuple[float, float]) -> NDArray[np.float32]:
    """Structure between two sizes, as standard deviations in pixels."""
    return _blurred(pictures, band[0]) - _blurred(pictures, band[1])


def _blurred(pictures: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    return np.stack([cv2.GaussianBlur(picture, (0, 0), blur) for picture in pictures]) if blur > 0 else pictures


def _nothing(over: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels of one colour all around at all times: the corners of a turned picture, bars, [H, W]."""
    filled = np.nan_to_num(over)
    high = np.max([cv2.dilate(picture, np.ones((5, 5))) for picture in filled], axis=0)
    low = np.min([cv2.erode(picture, np.ones((5, 5))) for picture in filled], axis=0)
    return np.asarray(high - low < 3)
