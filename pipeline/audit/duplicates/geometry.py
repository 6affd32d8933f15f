"""Where the picture of one frame lies in that of another: turned, scaled, moved, slightly skewed.

P points of a picture, H and W its sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.features import Points
from pipeline.audit.duplicates.films import SIDE

Transform = NDArray[np.float64]
"""float64 [2, 3]: (x, y, 1) of one picture to (x, y) of the other."""

MIN_INLIERS = 6
"""Points that must agree on a transform."""

_ALIKE = 0.8
"""Cosine of two descriptions from which their points may be the same."""

_REACH = 3.0  # pixels within which a point agrees
_LARGEST = 4.0  # scale
_SQUASHED = 2.0  # one axis against the other
_SKEW = 0.15  # by which an exact transform may differ from a rough one
_TRIES = 500
_TRIED = 3
_AGREEING = 1.5  # pixels between two transforms that are one
_MOST = 0.6


@dataclass(frozen=True)
class Pairing:
    """Frame `i` of one film lies in frame `j` of another by `transform`, as these points say, float32 [M, 2] each."""

    i: int
    j: int
    transform: Transform
    own: NDArray[np.float32]
    other: NDArray[np.float32]


def pairings(own: Mapping[int, Points], other: Mapping[int, Points]) -> list[Pairing]:
    """For frames of one film the frames of another that hold the same picture, the most alike first. By frame."""
    numbers = list(other)
    stacked = np.concatenate([points.descriptions for points in other.values()])
    ends = np.cumsum([len(points) for points in other.values()])[:-1]
    found: list[Pairing] = []
    for i, points in own.items():
        if len(points) < MIN_INLIERS:
            continue
        matches = [_mutual(part) for part in np.split(points.descriptions @ stacked.T, ends, axis=1)]
        for at in sorted(range(len(numbers)), key=lambda at: -len(matches[at]))[:_TRIED]:
            found += _paired(i, numbers[at], points, other[numbers[at]], matches[at])
    return found


def pair_frames(own: Points, other: Points) -> Pairing | None:
    """Where one picture lies in another; None when it is not found there."""
    found = _paired(0, 0, own, other, _mutual(own.descriptions @ other.descriptions.T))
    return found[0] if found else None


def common_transform(found: Sequence[Pairing]) -> Transform | None:
    """The one transform that most of the pairings agree on; None where each has its own: a camera moves."""
    if not found:
        return None
    corners = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1]], np.float64)
    places = np.stack([corners @ pairing.transform.T for pairing in found])
    agree = np.abs(places - np.median(places, axis=0)).max(axis=(1, 2)) < _AGREEING
    if agree.mean() < _MOST:
        return None
    chosen = [pairing for pairing, yes in zip(found, agree, strict=True) if yes]
    own, other = (np.concatenate([getattr(p, side) for p in chosen]) for side in ("own", "other"))
    middle: Transform = np.median([pairing.transform for pairing in chosen], axis=0)
    return _least_squares(own, other, middle)


def _paired(i: int, j: int, own: Points, other: Points, rows: NDArray[np.int64]) -> list[Pairing]:
    if len(rows) < MIN_INLIERS:
        return []
    a, b = own.places[rows[:, 0]], other.places[rows[:, 1]]
    rough, inside = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=_REACH, maxIters=_TRIES)
    if rough is None or 2 * int(inside.sum()) < len(rows):  # it may be squashed
        squashed, within = cv2.estimateAffine2D(a, b, ransacReprojThreshold=_REACH, maxIters=_TRIES)
        if squashed is not None and (rough is None or within.sum() > 1.3 * inside.sum() + MIN_INLIERS):
            rough, inside = squashed, within
    if rough is None or int(inside.sum()) < MIN_INLIERS or not _plausible(rough):
        return []
    agreed = inside.ravel() > 0
    a, b = a[agreed], b[agreed]
    return [Pairing(i, j, _least_squares(a, b, rough), a, b)]


def _plausible(transform: Transform) -> bool:
    """Whether a picture may have been scaled so much, and so differently along two axes."""
    large, small = np.linalg.svd(transform[:, :2], compute_uv=False)
    return bool(small > 1 / _LARGEST and large < _LARGEST and large < _SQUASHED * small)


def _least_squares(own: NDArray[np.float32], other: NDArray[np.float32], rough: Transform) -> Transform:
    """An affine transform near another, from points that agree; the other where these are few."""
    if len(own) < 4 * MIN_INLIERS:
        return rough
    known = np.column_stack([own, np.ones(len(own))]).astype(np.float64)
    solved = np.asarray(np.linalg.lstsq(known, other.astype(np.float64), rcond=None)[0].T, np.float64)
    return solved if np.abs(solved[:, :2] - rough[:, :2]).max() < _SKEW else rough


def _mutual(alike: NDArray[np.float32]) -> NDArray[np.int64]:
    """Pairs of points that are each other's nearest, int64 [M, 2]."""
    if min(alike.shape) == 0:
        return np.zeros((0, 2), np.int64)
    to, back = alike.argmax(axis=1), alike.argmax(axis=0)
    rows = np.arange(len(to))
    kept = (back[to] == rows) & (alike[rows, to] > _ALIKE)
    return np.column_stack([rows[kept], to[kept]])
