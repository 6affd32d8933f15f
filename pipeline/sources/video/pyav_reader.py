"""PyAV decoding exact frames: of a whole file by seeking in it, or of packets that were read before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.metadata import undecodable
from pipeline.sources.video.display import display_matrix, is_plain, require_colour, show
from pipeline.sources.video.packets import Packets, open_container

AV_ERRORS = (av.FFmpegError, ValueError, IndexError, OSError, MemoryError)


class NotAKeyframeError(Exception):
    """Decoding cannot begin where the container says that it can."""


@dataclass(frozen=True)
class VideoFile:
    """A video: its address, for messages, and where it is on this machine's disk."""

    path: str
    local: str

    def undecodable(self, error: Exception) -> EpisodeError:
        """The error for content that a decoder cannot read."""
        return undecodable(self.path, str(error).replace(self.local, self.path))


class Decoding(Protocol):
    """Decodes forward from a keyframe. from_start: the first one is the first of the file."""

    @property
    def from_start(self) -> bool: ...

    def since(self, dts: int) -> Iterator[av.VideoFrame]:
        """Frames from the last keyframe on that is found at `dts` or before."""
        ...

    def restarted(self) -> Iterator[av.VideoFrame]:
        """Frames from the first on."""
        ...

    def close(self) -> None: ...


class FileDecoding:
    """A file, in which it seeks. Raises EpisodeError."""

    from_start = True

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        try:
            self._container = open_container(file.local)
        except AV_ERRORS as error:
            raise file.undecodable(error) from error

    def since(self, dts: int) -> Iterator[av.VideoFrame]:
        """Seek by decoding time: some demuxers find keyframes by it, and it is never after the presentation time."""
        stream = self._container.streams.best("video")
        self._container.seek(dts, stream=stream, backward=True)
        return iter(self._container.decode(stream))

    def restarted(self) -> Iterator[av.VideoFrame]:
        """See `Decoding`."""
        self._container.close()
        self._container = open_container(self._file.local)
        return iter(self._container.decode(self._container.streams.best("video")))

    def close(self) -> None:
        self._container.close()


class PacketDecoding:
    """Packets in decoding order, the first of them a keyframe, of a container that stays open with its decoder."""

    def __init__(self, container: av.container.InputContainer, packets: Sequence[av.Packet], from_start: bool) -> None:
        self.from_start = from_start
        self._container, self._packets = container, packets
        self._decoder = container.streams.best("video").codec_context
        # A decoder is given a change of its parameters once, with a packet: it must not miss one.
        changed = any(packet.has_sidedata("new_extradata") for packet in packets[1:])
        keys = [at for at, packet in enumerate(packets) if packet.is_keyframe]
        self._keys = [0] if changed else keys
        self._times = [_found_at(packets[at]) for at in self._keys]

    def since(self, dts: int) -> Iterator[av.VideoFrame]:
        """See `Decoding`."""
        return self._decoded(self._keys[max(bisect_right(self._times, dts) - 1, 0)])

    def restarted(self) -> Iterator[av.VideoFrame]:
        """See `Decoding`."""
        return self._decoded(0)

    def close(self) -> None:
        self._container.close()

    def _decoded(self, first: int) -> Iterator[av.VideoFrame]:
        self._decoder.flush_buffers()
        for packet in self._packets[first:]:
            yield from self._decoder.decode(packet)
        yield from self._decoder.decode(None)


def _is_intra(frame: av.VideoFrame) -> bool:
    """Whether a picture needs no other, by the stream's own word: some decoders begin with any packet, on grey."""
    return PictureType(frame.pict_type) is PictureType.I


def _found_at(packet: av.Packet) -> int:
    found = packet.pts if packet.dts is None else packet.dts
    assert found is not None, "packets without times are of no indexed film"
    return int(found)


class PyavReader:
    """Goes to the keyframe at or before a frame, decodes forward and compares timestamps: exact or an error.

    Args:
        before: frames of the file that come before those of `packets`, for messages.

    Raises:
        NotAKeyframeError: nothing but the start of the file would do, and `decoding` does not have it.
    """

    name = "pyav"

    def __init__(self, file: VideoFile, packets: Packets, decoding: Decoding, before: int = 0) -> None:
        self._file, self._packets, self._decoding, self._before = file, packets, decoding, before
        self._place = {pts: index for index, pts in enumerate(packets.pts)}
        self._keys = packets.keys
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: int | None = None
        self.is_plain = self.is_turned = False  # of the frame read last

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """Frames of rising, distinct indices."""
        try:
            return {index: self._read_one(index) for index in indices}
        except AV_ERRORS as error:
            self._next = None
            raise self._file.undecodable(error) from error

    def close(self) -> None:
        self._frames = iter(())
        self._decoding.close()

    def _read_one(self, index: int) -> NDArray[np.uint8]:
        if self._packets.counted:
            return self._count_to(index)
        at = bisect_right(self._keys, index) - 1
        key = self._keys[at] if at >= 0 else 0
        fresh = self._next is None or not key <= self._next <= index
        if fresh:
            self._frames = self._decoding.since(self._packets.key_dts[at] if at >= 0 else self._packets.pts[0])
        for frame in self._frames:
            place = self._place.get(frame.pts)
            sought = fresh and (at > 0 or not self._decoding.from_start)
            if place is not None and sought and (place > key or not (place < key or _is_intra(frame))):
                # The keyframe is none: the container's list lies, or the picture is refreshed piece by piece. It is
                # whole from the start alone.
                if at <= 0:
                    raise NotAKeyframeError
                self._keys, self._next = self._keys[:1], None
                return self._read_one(index)
            if place is None or place < index:
                fresh = fresh and place is None
                continue
            self._next = place + 1
            if place == index:
                return self._pixels(frame, index)
            break
        self._next = None
        raise ValueError(f"the decoder does not return frame {self._before + index}")

    def _count_to(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` of a file whose times do not tell the frames apart: the decoder returns them in order."""
        if self._next is None or index < self._next:
            self._frames, self._next = self._decoding.restarted(), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return self._pixels(frame, index)
        self._next = None
        raise ValueError(f"the decoder does not return frame {self._before + index}")

    def _pixels(self, frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
        if frame.is_corrupt:
            raise ValueError(f"frame {self._before + index} is corrupt")
        require_colour(frame)
        matrix = display_matrix(frame)
        self.is_plain, self.is_turned = is_plain(frame), not matrix[0]
        return show(frame.to_ndarray(format="rgb24"), matrix)
