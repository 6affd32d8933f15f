"""A video decoded from its first frame to its last, without a seek: its index counts the frames before it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.frames import TimedFrame

_Decoded = Generator[tuple[float, av.VideoFrame], None, None]


def read_video(path: Path) -> Iterator[TimedFrame]:
    """Seconds after the first frame and RGB uint8 [H, W, 3] of every frame, in order of presentation.

    Raises:
        ValueError: the file is missing, has no video, or a frame does not decode.
    """
    with closing(_decoded(path)) as decoded:
        for second, frame in decoded:
            yield second, _pixels(frame)


def read_segment(path: Path, begin_s: float, count: int, tolerance_s: float) -> Iterator[TimedFrame]:
    """Like `read_video`, `count` frames from the one that is shown nearest to `begin_s`.

    Raises:
        ValueError: as `read_video`; no frame is shown within `tolerance_s`, or the video ends too early.
    """
    with closing(_from(path, begin_s)) as decoded:
        start: float | None = None
        for shown, (second, frame) in enumerate(decoded):
            if start is None:
                start = second
                if abs(start - begin_s) > tolerance_s:
                    raise ValueError(f"{path}: the frame nearest to {begin_s} s is shown at {start:.6f} s")
            yield second - start, _pixels(frame)
            if shown + 1 == count:
                return
        raise ValueError(f"{path}: fewer than {count} frames from {begin_s} s on")


def _from(path: Path, begin_s: float) -> _Decoded:
    """Frames from the one nearest to a time; that it is the nearest is known with the frame after it."""
    with closing(_decoded(path)) as decoded:
        before: tuple[float, av.VideoFrame] | None = None
        begun = False
        for now in decoded:
            if begun:
                yield now
            elif before is not None and abs(now[0] - begin_s) >= abs(before[0] - begin_s):
                begun = True
                yield before
                yield now
            before = now
        if not begun and before is not None:
            yield before


def _decoded(path: Path) -> _Decoded:
    """Seconds after the first frame, and the frame as the decoder holds it."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise ValueError(f"{path} holds no video")
            start: float | None = None
            for index, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt or frame.time is None:
                    raise ValueError(f"{path}: frame {index} is corrupt")
                start = frame.time if start is None else start
                yield frame.time - start, frame
    except av.FFmpegError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:200]}") from error


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, k=int(frame.rotation) // 90)
