"""What is ordinarily done to a film: cut, scaled, turned, framed, recoloured, played at another speed, compressed.

A film is a list of frames, RGB uint8 [H, W, 3] each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.video import Codec, write_video

Frame = NDArray[np.uint8]
Frames = list[Frame]
Change = Callable[[Frames], Frames]


def reencoded(film: Frames, path: Path, crf: int = 23) -> Frames:
    """H.264; odd sides lose a row or a column."""
    height, width = (side // 2 * 2 for side in film[0].shape[:2])
    even = [np.ascontiguousarray(frame[:height, :width]) for frame in film]
    write_video(path, even, 12, Codec("h264", "libx264", (("preset", "veryfast"), ("crf", str(crf)))))
    return [frame for _, frame in read_video(path)]


def every_frame(change: Callable[[Frame], Frame]) -> Change:
    """The same done to each frame."""
    return lambda film: [np.ascontiguousarray(change(frame)) for frame in film]


def cropped(share: float) -> Change:
    """The middle, or a little beside it: so much of each side."""

    def crop(frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        rows, columns = round(height * share), round(width * share)
        top, left = (height - rows) // 2, (width - columns) // 3
        return frame[top : top + rows, left : left + columns]

    return every_frame(crop)


def resized(share: float) -> Change:
    return every_frame(lambda frame: cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA))


def framed(vertical: float, horizontal: float, grey: int) -> Change:
    """Bars of one colour on all sides, as shares of height and width."""

    def frame_it(frame: Frame) -> Frame:
        rows, columns = round(frame.shape[0] * vertical), round(frame.shape[1] * horizontal)
        return cv2.copyMakeBorder(frame, rows, rows, columns, columns, cv2.BORDER_CONSTANT, value=(grey, grey, grey))

    return every_frame(frame_it)


def turned(degrees: float) -> Change:
    """About the middle; what comes in at the corners is black."""
    return every_frame(lambda frame: _moved(frame, 0, 0, degrees, 1.0))


def shrunk(share: float) -> Change:
    """A smaller picture in the middle of grey."""

    def shrink(frame: Frame) -> Frame:
        canvas = np.full_like(frame, 127)
        small = cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        top, left = ((a - b) // 2 for a, b in zip(canvas.shape[:2], small.shape[:2], strict=True))
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
        return canvas

    return every_frame(shrink)


def zoomed(film: Frames) -> Frames:
    """Slowly closer, by a fifth from the first frame to the last."""
    return [_moved(frame, 0, 0, 0, 1 + 0.2 * at / len(film)) for at, frame in enumerate(film)]


def shaken(film: Frames) -> Frames:
    """Each frame moved by up to a fiftieth of its width, as a hand-held camera would."""
    rng = np.random.default_rng(0)
    reach = film[0].shape[1] / 50
    return [_moved(frame, *rng.uniform(-reach, reach, 2), 0, 1.04) for frame in film]


def hue_turned(frame: Frame) -> Frame:
    colours = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    colours[..., 0] = (colours[..., 0].astype(np.int32) + 40) % 180
    return cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)


def gamma(frame: Frame) -> Frame:
    return (255 * (frame / 255.0) ** 0.6).round().astype(np.uint8)


def _brightened(frame: Frame) -> Frame:
    return np.clip(frame * 1.2 + 15.0, 0, 255).astype(np.uint8)


def _moved(frame: Frame, x: float, y: float, degrees: float, scale: float) -> Frame:
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, scale)
    matrix[:, 2] += x, y
    return cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)


def _blurred(frame: Frame) -> Frame:
    return cv2.GaussianBlur(frame, (0, 0), frame.shape[1] / 200)


def _cut(film: Frames) -> Frames:
    return film[len(film) // 4 : len(film) - len(film) // 6]


CHANGES: Mapping[str, Change] = {
    "copied": lambda film: film,
    "compressed": lambda film: film,  # at CRF 33, where it is written
    "half size": resized(0.5),
    "brightened": every_frame(_brightened),
    "darkened": every_frame(lambda frame: (frame * 0.6).astype(np.uint8)),
    "gamma 0.6": every_frame(gamma),
    "hue turned": every_frame(hue_turned),
    "grey": every_frame(lambda frame: cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)),
    "blurred": every_frame(_blurred),
    "negative": every_frame(lambda frame: 255 - frame),
    "cut in time": _cut,
    "every second frame": lambda film: film[::2],
    "slowed to half": lambda film: [frame for frame in film for _ in range(2)],
    "reversed in time": lambda film: film[::-1],
    "mirrored": every_frame(lambda frame: frame[:, ::-1]),
    "upside down": every_frame(lambda frame: frame[::-1]),
    "turned by 3 degrees": turned(3),
    "turned by 90 degrees": every_frame(np.rot90),
    "turned by 180 degrees": every_frame(lambda frame: frame[::-1, ::-1]),
    "cropped to 95 %": cropped(0.95),
    "cropped to 90 %": cropped(0.9),
    "cropped to 80 %": cropped(0.8),
    "border": framed(0.06, 0.06, 0),
    "white border": framed(0.1, 0.05, 255),
    "letterbox": framed(0.17, 0.0, 0),
    "shrunk into grey": shrunk(0.65),
    "slow zoom": zoomed,
    "camera shake": shaken,
}
"""Every change to be found; each is compressed afterwards."""
