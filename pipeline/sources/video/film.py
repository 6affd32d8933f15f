"""One episode's part of a film that many share, read without the rest of the file.

An mp4 lists the place and the time of decoding of every packet (`moov`). FFmpeg reads that list when it opens a file;
the packets are then read from the keyframe before the episode to its end, once, and decoded from memory. Presentation
times are those of the packets. What is not so listed (WebM, AVI, fragments) is read whole, as other videos are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.files import file_identity
from pipeline.sources.known_hashes import Identity
from pipeline.sources.video.clock import clock_times
from pipeline.sources.video.decode import Video
from pipeline.sources.video.frame_readers import FrameReader
from pipeline.sources.video.packets import Packets, arrange, open_container
from pipeline.sources.video.part import PartReader
from pipeline.sources.video.pyav_reader import AV_ERRORS, NotAKeyframeError, PacketDecoding, VideoFile
from pipeline.storage.raw.places import on_disk

_NEVER = 2**63 - 1


@dataclass(frozen=True)
class Span:
    """Where an episode lies in a film. times are seconds after its first frame.

    end_s      None: unknown, `frames` of them from `begin_s` on
    tolerance  in seconds, how far the first frame may be from `begin_s`, and how much before `end_s` the end
    """

    begin_s: float
    end_s: float | None
    frames: int
    tolerance: float


@dataclass(frozen=True)
class FilmPart:
    """Frames of a film, at least those near to `Span.begin_s` and from there to its end.

    seconds  float64 [F], of each, after the first frame of the film
    start    the one that is nearest to `Span.begin_s`
    before   frames of the film that come before them;  total  frames of the film
    """

    reader: FrameReader
    seconds: NDArray[np.float64]
    start: int
    before: int
    total: int


def open_part(path: str, span: Span) -> FilmPart:
    """The part of a film that an episode lies in.

    Raises:
        EpisodeError: "missing-file", or "undecodable" with the file and the decoder's message.
    """
    with ExitStack() as opened:
        try:
            local = opened.enter_context(on_disk(path))
        except FileNotFoundError as error:
            raise EpisodeError("missing-file", f"{path}: no such file") from error
        part = _listed_part(VideoFile(path, local), span, opened)
        if part is not None:
            return part
    video = Video(path)
    seconds = video.timestamps(range(video.num_frames))
    return FilmPart(video, seconds, int(np.abs(seconds - span.begin_s).argmin()), 0, video.num_frames)


def _listed_part(file: VideoFile, span: Span, opened: ExitStack) -> FilmPart | None:
    """None if the film has no list of its packets, or one that does not hold."""
    try:
        film = _read_index(file, file_identity(file.path))
        container = opened.enter_context(open_container(file.local))
        found = None if film is None else _read_part(container, film, span)
    except AV_ERRORS as error:
        raise file.undecodable(error) from error
    if film is None or found is None:
        return None
    packets, first, before = found
    if not first[0].is_keyframe:
        return None
    seconds = clock_times((pts - film.first for pts in packets.pts), packets.time_base)
    start = int(np.abs(seconds - span.begin_s).argmin())
    decoding = PacketDecoding(container, first, from_start=before == 0)
    try:
        reader = PartReader(file, packets, decoding, before, start, opened.pop_all())
    except (NotAKeyframeError, EpisodeError):
        return None  # read whole: that has the last word
    return FilmPart(reader, seconds, start, before, film.total)


@dataclass(frozen=True)
class FilmIndex:
    """The packets of a film in decoding order, int64 [P] each; no payload was read.

    places  byte in the file;  dts  time of decoding
    keys    which of them are keyframes, int64 [K]
    shown   how many frames are shown of the packets before each, int64 [P + 1]
    first   time of presentation of the first frame
    """

    places: NDArray[np.int64]
    dts: NDArray[np.int64]
    keys: NDArray[np.int64]
    shown: NDArray[np.int64]
    first: int

    @property
    def total(self) -> int:
        """Frames of the film."""
        return int(self.shown[-1])


@lru_cache(maxsize=16)
def _read_index(file: VideoFile, identity: Identity) -> FilmIndex | None:
    """Cached for each version of a file; None if the container does not list its packets before it is read."""
    with open_container(file.local) as container:
        stream = container.streams.best("video")
        if "mp4" not in container.format.name.split(",") or not stream.frames:
            return None
        listed = [(e.pos, e.timestamp, e.is_keyframe, not e.is_discard) for e in stream.index_entries]
        first = _first_time(container, stream)
    places, dts, keys, shown = np.array(listed, np.int64).reshape(-1, 4).T
    if first is None or not len(dts) or (np.diff(dts) < 0).any():
        return None
    return FilmIndex(places.copy(), dts.copy(), np.flatnonzero(keys), np.r_[0, np.cumsum(shown)], first)


def _first_time(container: av.container.InputContainer, stream: av.VideoStream) -> int | None:
    """When the first frame is shown: no packet that is decoded after that time holds an earlier one."""
    first: int | None = None
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None or packet.pts < packet.dts:
            return first if not packet.size else None
        if first is not None and packet.dts > first:
            break
        if not packet.is_discard:
            first = packet.pts if first is None else min(first, packet.pts)
    return first


def _read_part(
    container: av.container.InputContainer, film: FilmIndex, span: Span
) -> tuple[Packets, list[av.Packet], int] | None:
    """The frames of a part, its packets, and how many frames come before it; None if packets are not as listed."""
    stream = container.streams.best("video")
    base = Fraction(stream.time_base)
    ticks = _Ticks.of(span, film.first, base)
    at = int(np.searchsorted(film.dts[film.keys], ticks.latest, side="right")) - 1
    for key in range(max(at, 0), -1, -1):
        start = int(film.keys[key]) if at >= 0 else 0
        found = _packets_from(_demuxed_from(container, film, start), film, start, ticks)
        if found is None:
            return None
        packets, stop = found
        if packets:
            begin = packets[0].pts if start else -_NEVER
            own = [packet for packet in packets if begin <= packet.pts < stop]
            leading = sum(packet.pts < begin and not packet.is_discard for packet in packets)
            return arrange(stream, own), packets, int(film.shown[start]) + leading
    return None


@dataclass(frozen=True)
class _Ticks:
    """A span in ticks of a film's clock. wanted: frames from `begin` on."""

    begin: int
    latest: int
    end: int
    wanted: int

    @classmethod
    def of(cls, span: Span, first: int, base: Fraction) -> _Ticks:
        def ticks(seconds: float) -> Fraction:
            return first + Fraction(seconds) / base

        latest = math.floor(ticks(span.begin_s + span.tolerance))
        begin = math.ceil(ticks(span.begin_s - span.tolerance))
        if span.end_s is None:
            return cls(begin, latest, latest + 1, span.frames)
        return cls(begin, latest, max(latest + 1, math.ceil(ticks(span.end_s))), 1)


def _demuxed_from(container: av.container.InputContainer, film: FilmIndex, start: int) -> Iterator[av.Packet]:
    """Packets from a listed keyframe on; none if FFmpeg does not find it.

    FFmpeg looks for a time of presentation. It knows that of no packet, and moves it by that of the first.
    """
    stream = container.streams.best("video")
    following = film.keys[film.keys > start]
    end = int(film.dts[following[0]]) if len(following) else int(film.dts[-1]) + 1
    middle = (int(film.dts[start]) + end) // 2
    for moved in (film.first - int(film.dts[0]), 0):
        container.seek(middle + moved, stream=stream, backward=True)
        demuxed = container.demux(stream)
        packet = next(demuxed, None)
        if packet is not None and packet.size and packet.pos == film.places[start]:
            yield packet
            yield from demuxed
            return


def _packets_from(
    demuxed: Iterator[av.Packet], film: FilmIndex, start: int, ticks: _Ticks
) -> tuple[list[av.Packet], int] | None:
    """Packets from a listed keyframe on, and the time up to which all frames are among them: no packet that is decoded
    at a time holds a frame that is shown before it.

    None if they are not as listed; no packets if the part begins with frames that are decoded after the keyframe and
    shown before it.
    """
    packets: list[av.Packet] = []
    wanted, end, highest = ticks.wanted, ticks.end, -_NEVER
    for place, dts in zip(film.places[start:].tolist(), film.dts[start:].tolist(), strict=True):
        if wanted <= 0 and dts >= end:
            return packets, end
        packet = next(demuxed, None)
        if packet is None or not packet.size:
            break  # the file is cut off
        if packet.pos != place or packet.dts != dts or packet.pts is None or packet.pts < dts:
            return None
        if not packets and start and packet.pts > ticks.latest:
            return [], 0
        packets.append(packet)
        highest = max(highest, packet.pts)
        if packet.pts >= ticks.begin and not packet.is_discard:
            wanted -= 1
            end = max(end, highest + 1) if wanted == 0 else end
    return (packets, _NEVER) if packets else None
