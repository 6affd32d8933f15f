"""Facts about a video file that need no decoding: the number of frames, their times, and where a seek can land."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.sources.video.clock import clock_times
from pipeline.sources.video.vp9_header import vp9_frames


@dataclass(frozen=True)
class Packets:
    """The frames of a file, or of a part of one. Index i is the i-th frame in order of presentation; times are in units
    of `time_base`.

    pts       presentation time of each frame
    keys      indices of the keyframes, sorted;  key_dts  the time by which a demuxer finds each of them
    fps       average frames per second
    codec     name of the video codec
    plain     VP9 of one size, every packet shows exactly one frame, and packets are in order of presentation
    counted   the container has no times of presentation (AVI) and frames are reordered: frame i is the i-th decoded
    """

    pts: tuple[int, ...]
    keys: tuple[int, ...]
    key_dts: tuple[int, ...]
    time_base: Fraction
    fps: float
    codec: str
    plain: bool
    counted: bool

    def times(self, indices: Iterable[int], since: int = 0) -> NDArray[np.float64]:
        """Presentation times of frames in seconds after frame `since`, float64 [indices]."""
        return clock_times((self.pts[index] - self.pts[since] for index in indices), self.time_base)


@dataclass(frozen=True)
class _Packet:
    """Of VP9, `sizes` are those that its frames' headers give, and whether these frames are shown."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_shown: bool
    is_plain: bool
    sizes: tuple[tuple[tuple[int, int], bool], ...]

    @classmethod
    def of(cls, packet: av.Packet, codec: str) -> _Packet:
        is_shown = not packet.is_discard and (codec != "vp8" or _vp8_is_shown(packet))
        frames = vp9_frames(bytes(packet)) if codec == "vp9" else []
        sizes = tuple((frame.size, frame.is_shown) for frame in frames if frame.size is not None)
        is_plain = sum(frame.is_shown for frame in frames) == 1
        return cls(packet.pts, packet.dts, packet.is_keyframe, is_shown, is_plain, sizes)


_NO_DECODER = {"codec_whitelist": "none"}
"""Opens a file without its decoders, which is ten times as fast. VP9's packets do not need them."""


def open_container(path: str, options: Mapping[str, str] | None = None) -> av.container.InputContainer:
    """Open a file whose best video stream has a known codec.

    Metadata that is not UTF-8 is accepted. One thread is used, because many workers share a machine.

    Raises:
        av.FFmpegError, ValueError: no such file, no video stream, or an unknown codec.
    """
    container = av.open(path, metadata_errors="replace", options=dict(options or {}))
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        raise ValueError("holds no video stream" if stream is None else "holds a video stream of an unknown codec")
    stream.codec_context.thread_count = 1
    return container


def read_packets(path: str) -> Packets:
    """Demultiplex a whole file, so that the frame count does not depend on the header.

    Raises:
        av.FFmpegError, ValueError: unreadable, no frames, or frames that share a time or have none.
    """
    with open_container(path, _NO_DECODER) as container:
        if container.streams.best("video").codec.canonical_name == "vp9":
            packets = _demultiplex(container)
            if packets.plain:
                return packets
    with open_container(path) as container:  # other codecs need some decoding for times and order
        return _demultiplex(container)


def _demultiplex(container: av.container.InputContainer) -> Packets:
    stream = container.streams.best("video")
    packets = (packet for packet in container.demux(stream) if packet.size)
    return arrange(stream, packets, container.format.name == "avi" and bool(stream.codec_context.has_b_frames))


def arrange(stream: av.VideoStream, packets: Iterable[av.Packet], counted: bool = False) -> Packets:
    """The frames of some packets of a stream, which are in decoding order.

    Raises:
        ValueError: no frames, frames that share a time or have none, or VP9 whose size changes.
    """
    codec, time_base = stream.codec.canonical_name, Fraction(stream.time_base or 0)
    read = [_Packet.of(packet, codec) for packet in packets]
    shown = [packet for packet in read if packet.is_shown]
    times = [packet.pts for packet in shown if packet.pts is not None]
    if not shown or len(set(times)) < len(shown) or not time_base:
        raise ValueError(f"{len(shown)} video packets with {len(set(times))} different timestamps; each needs its own")
    sizes = {size for packet in read for size in packet.sizes}
    shown_sizes = sorted({size for size, is_shown in sizes if is_shown})
    if len(shown_sizes) > 1:
        raise ValueError(f"pictures of {len(shown_sizes)} sizes, {shown_sizes[:3]}: one size is needed")
    pts = sorted(times)
    place = {value: index for index, value in enumerate(pts)}
    keys = sorted((place[p.pts], p.pts if p.dts is None else p.dts) for p in shown if p.is_key and p.pts is not None)
    span = float((pts[-1] - pts[0]) * time_base)
    return Packets(
        pts=tuple(pts),
        keys=tuple(key for key, _ in keys),
        key_dts=tuple(dts for _, dts in keys),
        time_base=time_base,
        fps=float(stream.average_rate or 0) or ((len(pts) - 1) / span if span else 0.0),
        codec=codec,
        counted=counted,
        plain=times == pts
        and read[0].is_key
        and all(packet.is_plain and packet.is_shown for packet in read)
        and len({size for size, _ in sizes}) <= 1,
    )


def _vp8_is_shown(packet: av.Packet) -> bool:
    """Whether a VP8 packet is shown and not a hidden reference frame: frame tag, RFC 6386, section 9.1."""
    return bool(memoryview(packet)[0] >> 4 & 1)
