"""A video decoded from its first frame to its last, without a seek: its index counts the frames before it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.clock import seconds
from pipeline.audit.raw.decoding.display import displayed
from pipeline.audit.raw.decoding.frames import TimedFrame, brief


def read_video(path: Path) -> Iterator[TimedFrame]:
    """Seconds after the first frame and RGB uint8 [H, W, 3] of every frame, in order of presentation.

    Raises:
        ValueError: the file is missing, has no video, or a frame does not decode.
    """
    for second, frame in _decoded(path):
        yield seconds(second), _pixels(frame)


def read_segment(path: Path, begin_s: float, count: int, tolerance_s: float) -> Iterator[TimedFrame]:
    """Like `read_video`, `count` frames from the one that is shown nearest to `begin_s`.

    Raises:
        ValueError: as `read_video`; no frame is shown within `tolerance_s`, or the video ends too early.
    """
    decoded = _decoded(path)
    first, following = next(decoded, None), next(decoded, None)
    while first and following and abs(following[0] - begin_s) < abs(first[0] - begin_s):
        first, following = following, next(decoded, None)
    if first and abs(first[0] - begin_s) > tolerance_s:
        raise ValueError(f"{path}: the frame nearest to {begin_s} s is shown at {float(first[0]):.6f} s")
    shown = 0
    for second, frame in islice(chain(filter(None, (first, following)), decoded), count):
        yield seconds(second - (first or (second,))[0]), _pixels(frame)
        shown += 1
    if shown < count:
        raise ValueError(f"{path}: fewer than {count} frames from {begin_s} s on")


def _decoded(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Exact seconds after the first frame, and the frame as the decoder holds it."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise ValueError(f"{path} holds no video")
            start: Fraction | None = None
            for index, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt or frame.pts is None or not frame.time_base:
                    raise ValueError(f"{path}: frame {index} is corrupt")
                time = frame.pts * Fraction(frame.time_base)
                start = time if start is None else start
                yield time - start, frame
    except av.FFmpegError as error:
        raise ValueError(f"{path}: {brief(error)}") from error


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """As it is displayed."""
    if len(frame.format.components) == 1 and frame.format.components[0].bits > 8:
        raise ValueError(f"a frame is {frame.format.name}: distances, no picture")
    return displayed(frame.to_ndarray(format="rgb24"), frame.side_data.get("DISPLAYMATRIX"))
