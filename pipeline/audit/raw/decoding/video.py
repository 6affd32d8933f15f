"""A video decoded from its first frame to its last, without a seek: its index counts the frames before it.

Of a film that many episodes share, each reads its own part: see `film.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.clock import seconds
from pipeline.audit.raw.decoding.display import displayed
from pipeline.audit.raw.decoding.frames import TimedFrame, brief
from pipeline.audit.raw.place import Place, on_disk

Size = tuple[int, int]
"""Height and width."""

Timed = tuple[Fraction, av.VideoFrame]
"""Exact seconds after the first frame, and the frame as the decoder holds it."""


def read_video(path: Place, size: Size | None = None) -> Iterator[TimedFrame]:
    """Seconds after the first frame and RGB uint8 [H, W, 3] of every frame, in order of presentation.

    Args:
        size: of the frames as they are stored or as they are displayed; None: any.

    Raises:
        ValueError: the file is missing, has no video, or a frame does not decode, or has another size than `size` or
            than the first.
    """
    yield from of_one_size(((seconds(second), pixels(frame, size)) for second, frame in _decoded(path)), path)


def of_one_size(frames: Iterator[TimedFrame], path: Place) -> Iterator[TimedFrame]:
    """The same frames. Raises ValueError at one that has another size than the first."""
    first = None
    for second, frame in frames:
        first = first or frame.shape
        if frame.shape != first:
            raise ValueError(f"{path}: the frame at {second:.6g} s is {frame.shape}, those before it are {first}")
        yield second, frame


def at_rate(frames: Iterator[TimedFrame], rate: float | None, path: Place) -> Iterator[TimedFrame]:
    """The same frames. Raises ValueError after the last unless the median or the mean of their steps is, within a
    tenth, that of `rate` frames a second (None: unknown)."""
    times: list[float] = []
    for second, frame in frames:
        times.append(second)
        yield second, frame
    steps = [after - before for before, after in pairwise(times)]
    if rate is not None and steps and all(abs(step * rate - 1) > 0.1 for step in (median(steps), fmean(steps))):
        raise ValueError(f"{path}: frames are {median(steps):.4g} s apart, by fps={rate:g} it is {1 / rate:.4g} s")


def _decoded(path: Place) -> Iterator[Timed]:
    """Every frame.

    A frame that the decoder leaves out is an error: those after it would be taken for others.
    """
    try:
        with on_disk(path) as local:
            yield from decoded_copy(local, path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: {brief(error)}") from error


def decoded_copy(local: Path, path: Place) -> Iterator[Timed]:
    """Every frame of a file on this machine. Raises ValueError, av.FFmpegError or OSError."""
    times = _packet_times(local, path)
    if not times:
        raise ValueError(f"{path} shows no frame")
    with open_film(local) as container:
        count, counted = 0, container.format.name == "avi"
        for index, frame in enumerate(container.decode(container.streams.best("video"))):
            if frame.is_corrupt or not frame.time_base:
                raise ValueError(f"{path}: frame {index} is corrupt")
            if index >= len(times) or (frame.pts != times[index] and not counted):
                raise ValueError(f"{path}: frame {index} is not decoded, the next one that is comes at {frame.pts}")
            yield (times[index] - times[0]) * Fraction(frame.time_base), frame
            count += 1
        if count < len(times):
            raise ValueError(f"{path}: {count} of {len(times)} frames are decoded")


def _packet_times(local: Path, path: Place) -> list[int]:
    """When frames are shown, in order. In AVI, which has no times of presentation, the i-th is that of frame i."""
    with open_film(local) as container:
        stream = video_of(container, path)
        shown = (packet for packet in container.demux(stream) if packet.size and is_shown(packet, stream))
        return sorted(packet.pts for packet in shown if packet.pts is not None)


def video_of(container: av.container.InputContainer, path: Place) -> av.VideoStream:
    """Its best video stream. Raises ValueError if there is none that can be decoded."""
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise ValueError(f"{path} holds no video of a known codec")
    return stream


def is_shown(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether a packet is one of a frame that is shown: no edit list drops it, and it is no reference alone."""
    return not packet.is_discard and not (stream.codec.canonical_name == "vp8" and _is_hidden_vp8(packet))


def open_film(path: Path) -> av.container.InputContainer:
    """A container whose metadata may be no UTF-8."""
    return av.open(str(path), metadata_errors="replace")


def _is_hidden_vp8(packet: av.Packet) -> bool:
    """A reference frame that is not shown: bit 4 of the frame tag (RFC 6386, 9.1)."""
    return not bytes(packet)[0] & 0x10


def pixels(frame: av.VideoFrame, size: Size | None) -> NDArray[np.uint8]:
    """As it is displayed."""
    if len(frame.format.components) == 1 and frame.format.components[0].bits > 8:
        raise ValueError(f"a frame is {frame.format.name}: distances, no picture")
    shown = displayed(frame.to_ndarray(format="rgb24"), frame.side_data.get("DISPLAYMATRIX"))
    if size not in (None, (frame.height, frame.width), shown.shape[:2]):
        raise ValueError(f"a frame is {frame.height} x {frame.width}, declared is {size}")
    return shown
