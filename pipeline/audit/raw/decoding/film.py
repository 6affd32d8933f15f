"""One episode of a film that many share: decoded from the keyframe before it on, not from the film's beginning.

Its first frame is found by its time, so nothing has to be counted. Every frame that comes out of the decoder is the
earliest of the packets that went in: one that is left out would make others pass for it.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path

import av
from av.video.frame import PictureType

from pipeline.audit.raw.decoding.clock import seconds
from pipeline.audit.raw.decoding.frames import TimedFrame, brief
from pipeline.audit.raw.decoding.video import (
    Size,
    Timed,
    decoded_copy,
    is_shown,
    of_one_size,
    open_film,
    pixels,
    video_of,
)
from pipeline.audit.raw.place import Place, on_disk


def read_segment(
    path: Place, begin_s: float, end_s: float | None, count: int, tolerance_s: float, size: Size | None = None
) -> Iterator[TimedFrame]:
    """Like `read_video`, `count` frames from the one that is shown at `begin_s`.

    Raises:
        ValueError: as `read_video`; no frame is shown within `tolerance_s` of `begin_s`, the video ends too early, or
            not `count` frames are shown before `end_s` (None: unknown).
    """
    yield from of_one_size(_segment(path, begin_s, end_s, count, tolerance_s, size), path)


def _segment(
    path: Place, begin_s: float, end_s: float | None, count: int, tolerance_s: float, size: Size | None
) -> Iterator[TimedFrame]:
    decoded = _decoded_near(path, begin_s, tolerance_s)
    first, following = next(decoded, None), next(decoded, None)
    while first and following and abs(following[0] - begin_s) < abs(first[0] - begin_s):
        first, following = following, next(decoded, None)
    if first and abs(first[0] - begin_s) > tolerance_s:
        raise ValueError(f"{path}: the frame nearest to {begin_s} s is shown at {float(first[0]):.6f} s")
    shown, rest = 0, chain(filter(None, (first, following)), decoded)
    for second, frame in islice(rest, count):
        if end_s is not None and second >= end_s - tolerance_s:
            raise ValueError(f"{path}: {shown} frames are shown from {begin_s} s to {end_s} s, expected {count}")
        yield seconds(second - (first or (second,))[0]), pixels(frame, size)
        shown += 1
    if shown < count:
        raise ValueError(f"{path}: fewer than {count} frames from {begin_s} s on")
    after = next(rest, None) if end_s is not None else None
    if end_s is not None and after is not None and after[0] < end_s - tolerance_s:
        raise ValueError(f"{path}: more than {count} frames are shown from {begin_s} s to {end_s} s")


def _decoded_near(path: Place, begin_s: float, tolerance_s: float) -> Iterator[Timed]:
    """As `decoded`, from a keyframe at or before a time on; from the film's first frame where that is not possible."""
    begin, tolerance = Fraction(begin_s), Fraction(tolerance_s)
    try:
        with on_disk(path) as local:
            if not (yield from _from_keyframe(local, path, begin - tolerance, begin + tolerance)):
                yield from decoded_copy(local, path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: {brief(error)}") from error


def _from_keyframe(local: Path, path: Place, since: Fraction, latest: Fraction) -> Generator[Timed, None, bool]:
    """False, before any frame, if the container does not list its packets, or if decoding cannot begin with them.

    Args:
        since: seconds from which on every frame has to be whole and there.
        latest: seconds after which the first frame may not be shown.
    """
    with open_film(local) as container:
        stream = video_of(container, path)
        base, start = Fraction(stream.time_base or 0), _first_frame(container, stream)
        if "mp4" not in container.format.name.split(",") or not stream.frames or start is None:
            return False
        zero, place = start
        packets = _packets_near(container, stream, zero + math.floor(latest / base), place)
        key = next(packets, None)
        if key is None or key.pts is None:
            return False
        begin = None if key.pos == place else key.pts
        expected = _Expected(path, zero + math.ceil(since / base))
        for packet in chain((key,), packets):
            if (
                packet.size
                and packet.pts is not None
                and is_shown(packet, stream)
                and packet.pts >= (begin or packet.pts)
            ):
                expected.add(packet.pts)
            for frame in packet.decode():
                if frame.pts is not None and begin is not None and frame.pts < begin:
                    continue  # it leads the keyframe, and is made from frames before it
                intra = PictureType(frame.pict_type) is PictureType.I
                if expected.taken == 0 and begin is not None and not (frame.pts == begin and intra):
                    return False  # no keyframe, or refreshed piece by piece: the picture is whole from the start alone
                expected.take(frame)
                yield (frame.pts - zero) * base, frame
        expected.require_all()
    return True


class _Expected:
    """Times of presentation of the packets that a decoder was given, until their frames come out of it.

    Args:
        since: before it frames may be damaged or missing.
    """

    def __init__(self, path: Place, since: int) -> None:
        self.taken = 0
        self._path, self._since, self._waiting = path, since, list[int]()

    def add(self, pts: int) -> None:
        """A packet goes in."""
        heappush(self._waiting, pts)

    def take(self, frame: av.VideoFrame) -> None:
        """A frame comes out. Raises ValueError unless it is whole and the next one."""
        while self._waiting and (frame.pts is None or self._waiting[0] < frame.pts):
            self._lose(heappop(self._waiting))
        if not self._waiting or heappop(self._waiting) != frame.pts:
            raise ValueError(f"{self._path}: a frame at {frame.pts} is decoded that no packet shows")
        if frame.is_corrupt and frame.pts >= self._since:
            raise ValueError(f"{self._path}: the frame at {frame.pts} is corrupt")
        self.taken += 1

    def require_all(self) -> None:
        """Raises ValueError if frames did not come out."""
        while self._waiting:
            self._lose(heappop(self._waiting))

    def _lose(self, pts: int) -> None:
        if pts >= self._since:
            raise ValueError(f"{self._path}: the frame at {pts} is not decoded")


def _first_frame(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[int, int] | None:
    """When the film's first frame is shown, and the place of its first packet; None if packets have no times.

    A packet that is decoded after a time holds no frame that is shown before it.
    """
    first = place = None
    for packet in container.demux(stream):
        if not packet.size or (first is not None and packet.dts is not None and packet.dts > first):
            break
        if packet.dts is None or packet.pts is None or packet.pts < packet.dts:
            return None
        place = packet.pos if place is None else place
        if not packet.is_discard:
            first = packet.pts if first is None else min(first, packet.pts)
    return None if first is None or place is None else (first, place)


def _packets_near(
    container: av.container.InputContainer, stream: av.VideoStream, latest: int, place: int
) -> Iterator[av.Packet]:
    """Packets in order of the file, from the last keyframe on that is shown by `latest`, or from the first at `place`.

    None if no keyframe is found.
    """
    wanted = latest
    while True:
        container.seek(wanted, stream=stream, backward=True)
        packets = container.demux(stream)
        key = next(packets, None)
        if key is None or not key.size or not key.is_keyframe or key.pts is None or key.dts is None:
            return
        if key.pts <= latest or key.pos == place:
            yield from chain((key,), packets)
            return
        wanted = min(wanted, key.dts) - 1
