"""What is kept of every film: words of some of its points. 2 KiB a film.

K words of a film, F frames, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.features import find_points
from pipeline.audit.duplicates.films import Film, FilmReader, evenly_spread, read_film
from pipeline.audit.duplicates.index import MAX_WORDS, words_of

FRAMES = 12
"""Frames whose points are looked at where the camera stands still."""

_FRAMES_OF_A_MOVING_CAMERA = 4
_POINTS = 128
_MOVED = 8.0
"""Standard deviation over time, in grey levels, from which a pixel moves."""

_STATIC = 0.4
"""A camera stands still when no more than this share of the pixels moves."""

_LEAST_MOVING = 24
"""Words below which those of the background join in."""


class Sketcher:
    """Takes every frame of a video in order."""

    def __init__(self) -> None:
        self._reader = FilmReader(2 * FRAMES)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next frame, RGB uint8 [H', W', 3]."""
        self._reader.add(frame)

    def words(self) -> NDArray[np.uint32]:
        """uint32 [K], rising; none where nothing was shown."""
        return sketch(self._reader.film())


def sketch(film: Film) -> NDArray[np.uint32]:
    """The words of a film, uint32 [K], rising and all different, K at most MAX_WORDS.

    Before a camera that stands still every episode has the same background: there, the words are of what moves.
    """
    if len(film) == 0:
        return np.zeros(0, np.uint32)
    moving = _moving(film.pictures)
    static = 0 < moving.mean() <= _STATIC
    chosen = evenly_spread(len(film), FRAMES if static else _FRAMES_OF_A_MOVING_CAMERA)
    own, rest = [], []
    for picture in film.pictures[chosen]:
        points = find_points(picture)
        at = np.clip(points.places.round().astype(np.int64), 0, np.array(picture.shape[::-1]) - 1)
        inside = moving[at[:, 1], at[:, 0]] if static else np.ones(len(points), bool)
        words = words_of(points.descriptions)
        own.append(words[inside][: MAX_WORDS // len(chosen)])
        rest.append(words[~inside][: _POINTS // 4])
    found = np.unique(np.concatenate(own))
    if len(found) < _LEAST_MOVING:
        found = np.unique(np.concatenate([*own, *rest[:4]]))
    return found[:MAX_WORDS]


def sketch_frames(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint32]:
    """The words of a whole video, frame by frame, RGB uint8 [H', W', 3] each."""
    return sketch(read_film(frames, 2 * FRAMES))


def _moving(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels that change over time, bool [H, W]."""
    return pictures.astype(np.float32).std(axis=0) > _MOVED
