"""Videos as they are compared: grey, without borders, every picture of the same area.

F kept frames, H and W sides of a kept picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 192
"""A picture is scaled to the area of a square of this side; its shape stays as it is."""

MAX_FRAMES = 256
"""Frames kept of one film while it is compared: 36 KiB each."""

_READ_SIDE = 2 * SIDE  # borders are trimmed afterwards, and what remains should not need enlarging
_BORDER = 3.0
"""Spread in grey levels below which a row or column at the edge shows nothing."""

_LEAST = 16  # pixels that remain of either side


@dataclass(frozen=True)
class Film:
    """Some evenly spread frames of a video.

    pictures  uint8 [F, H, W]
    numbers   int32 [F]: which frames of the video they are
    grain     pixels of a picture to one of the video; 1 where the video has more
    """

    pictures: NDArray[np.uint8]
    numbers: NDArray[np.int32]
    grain: float

    def __len__(self) -> int:
        return len(self.numbers)


class FilmReader:
    """Takes every frame of a video in order and keeps few: every frame, then every second, fourth ... as they come."""

    def __init__(self, most: int = MAX_FRAMES) -> None:
        self._most, self._step, self._seen = most, 1, 0
        self._kept: list[NDArray[np.uint8]] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next frame, RGB uint8 [H', W', 3]."""
        if self._seen % self._step == 0:
            if len(self._kept) == self._most:
                self._kept, self._step = self._kept[::2], 2 * self._step
            if self._seen % self._step == 0:
                self._kept.append(_grey(frame))
        self._seen += 1

    def film(self) -> Film:
        """What was kept; a film of no frames where no frame was added."""
        numbers = np.arange(len(self._kept), dtype=np.int32) * self._step
        if not self._kept:
            return Film(np.zeros((0, SIDE, SIDE), np.uint8), numbers, 1.0)
        shape = self._kept[0].shape
        stack = _trimmed(np.stack([_resized(picture, shape) for picture in self._kept]))
        factor = SIDE / float(np.sqrt(stack[0].size))
        return Film(np.stack([_rescaled(picture, factor) for picture in stack]), numbers, max(1.0, factor))


def read_film(frames: Iterable[NDArray[np.uint8]], most: int = MAX_FRAMES) -> Film:
    """At most so many frames of a video, RGB uint8 [H', W', 3] each."""
    reader = FilmReader(most)
    for frame in frames:
        reader.add(frame)
    return reader.film()


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of the numbers 0..count-1, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    factor = _READ_SIDE / float(np.sqrt(grey.size))
    return np.asarray(_rescaled(grey, factor) if factor < 1 else grey, np.uint8)


def _trimmed(stack: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without rows and columns at the edges that show nothing in any frame."""
    some = stack[evenly_spread(len(stack), 12)]
    for axis in (1, 2):
        shown = np.flatnonzero(some.std(axis=3 - axis).mean(axis=0) >= _BORDER)
        if len(shown) and shown[-1] + 1 - shown[0] >= _LEAST:
            cut = slice(shown[0], shown[-1] + 1)
            stack, some = (a[:, cut] if axis == 1 else a[:, :, cut] for a in (stack, some))
    return stack


def _rescaled(picture: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = (max(_LEAST, round(side * factor)) for side in picture.shape)
    return _resized(picture, (height, width))


def _resized(picture: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if picture.shape == shape:
        return picture
    smaller = shape[0] < picture.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (shape[1], shape[0]), interpolation=way), np.uint8)
