"""Video file and frame indices to RGB pixels: uint8 [T, H, W, 3].

There are two decoders. decord reads VP9, and so Something-Something-v2. PyAV reads all other codecs, among them AV1,
which LeRobot writes by default and decord 0.6 cannot open. The reason is that decord 0.6 gives wrong frames silently:

- after a seek it counts frames in decoding order. With reordered frames (H.264, HEVC and MPEG-4 with B-frames around a
  keyframe) it returns a neighbour, often a later frame, which would be leakage;
- a packet that shows no frame shifts its count in the same way;
- it does not report frames that the H.264 decoder concealed after damage; PyAV does.

- it cannot decode some small or unusual sizes, and it converts the colours of odd heights otherwise;
- it ignores mirroring.

decord therefore reads a file only if every packet shows one frame, in order (`Packets.plain`), if the picture is plain
(`is_plain`), if it finds the same frames at the same times as the packets, and if its first frame is PyAV's to the bit.
A file in which decord meets a frame that it cannot decode is read by PyAV from there on. All facts about a video come
from the decoder that reads it, or were compared with it. A frame that neither decodes is an EpisodeError and is never
replaced.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import av
import decord
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.files import Identity, file_identity
from pipeline.sources.metadata import undecodable
from pipeline.sources.video.display import display_matrix, is_plain, require_colour, show
from pipeline.sources.video.frame_readers import check_indices
from pipeline.sources.video.packets import Packets, open_container, read_packets
from pipeline.storage.raw.places import on_disk

CACHE_BYTES = 64 * 2**20
"""Decoded frames that an open video caches for overlapping windows."""

DECORD_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, StopIteration)
AV_ERRORS = (av.FFmpegError, ValueError, IndexError, OSError, MemoryError)

DECORD_NO_REPEATS = 1e-9
"""decord's `fault_tol`, a share of the frames: fail at the first frame that it would replace by a neighbour."""

CLOCK_TOLERANCE_S = 2e-3
"""decord reports times as float32, containers as milliseconds."""


class Video:
    """One open video file; use it as a context manager.

    Opening reads all packets, without their pixels, and decodes the first frame. A file that opens is therefore a video
    of `num_frames` frames. Not safe to share between threads.

    Attributes:
        codec: name of the video codec.
        num_frames: frames that are shown, in order of presentation.
        fps: average frames per second.
        width, height: pixels of a decoded frame.
        decoder: "decord" or "pyav".
        is_turned: frames are shown after a quarter turn.

    Raises:
        EpisodeError: "missing-file", or "undecodable" with the file and the decoder's message.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with ExitStack() as opened:
            try:
                local = opened.enter_context(on_disk(self.path))
            except FileNotFoundError as error:
                raise EpisodeError("missing-file", f"{self.path}: no such file") from error
            file = _File(self.path, local)
            packets = _packets_of(file)
            self._file, self._reader = file, _open_reader(file, packets)
            opened.callback(lambda: self._reader.close())
            self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
            self._packets, self.num_frames = packets, len(packets.pts)
            self.codec, self.fps, self.decoder = packets.codec, packets.fps, self._reader.name
            self.height, self.width = self._decode([0])[0].shape[:2]
            self.is_turned = self._reader.is_turned
            self._opened = opened.pop_all()

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3]; any order, repeats allowed.

        Raises:
            EpisodeError: "out-of-range", or "undecodable".
        """
        check_indices(indices, self.num_frames, self.path)
        wanted = set(indices)
        found = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = sorted(wanted - found.keys())
        if missing:
            found.update(self._decode(missing))
        if not indices:
            return np.zeros((0, self.height, self.width, 3), np.uint8)
        return np.stack([found[i] for i in indices])

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """Presentation times in seconds after frame `since`, float64 [len(indices)].

        Raises:
            EpisodeError: "out-of-range".
        """
        check_indices([*indices, since], self.num_frames, self.path)
        return self._packets.times(indices, since)

    def close(self) -> None:
        """Release the decoder."""
        self._opened.close()
        self._cache.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _decode(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        frames = self._read(indices)
        first = next(iter(self._cache.values()), frames[indices[0]])
        for index in indices:
            frame = frames[index]
            if frame.shape != first.shape:
                raise undecodable(self.path, f"frame {index} is {frame.shape}, earlier frames are {first.shape}")
            self._cache[index] = frame
        while len(self._cache) * first.nbytes > CACHE_BYTES:
            self._cache.popitem(last=False)
        return frames

    def _read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        try:
            return self._reader.read(indices)
        except EpisodeError:
            if self._reader.name == _PyavReader.name:
                raise
        self._reader.close()
        self._reader = _PyavReader(self._file, self._packets)
        self.decoder = self._reader.name
        return self._reader.read(indices)


@dataclass(frozen=True)
class _File:
    """A video: its address, for messages, and where it is on this machine's disk."""

    path: str
    local: str

    def undecodable(self, error: Exception) -> EpisodeError:
        """The error for content that a decoder cannot read."""
        return undecodable(self.path, str(error).replace(self.local, self.path))


def _packets_of(file: _File) -> Packets:
    try:
        return _read_packets(file, file_identity(file.path))
    except AV_ERRORS as error:
        raise file.undecodable(error) from error


@lru_cache(maxsize=4)
def _read_packets(file: _File, identity: Identity) -> Packets:
    """Cached per version of the file: episodes may share one, and reading its packets reads the whole file."""
    return read_packets(file.local)


def _open_reader(file: _File, packets: Packets) -> _DecordReader | _PyavReader:
    """decord if it is exact and can read the file, else PyAV."""
    exact = _PyavReader(file, packets)
    if not packets.plain:
        return exact
    try:
        first = exact.read([0])[0]
        reader = _DecordReader.try_open(file, packets) if exact.is_plain else None
        if reader is not None and np.array_equal(reader.read([0])[0], first):
            exact.close()
            return reader
    except EpisodeError:
        pass  # one of them cannot decode the first frame; PyAV has the last word when the caller asks for it
    return exact


class _DecordReader:
    name, is_turned = "decord", False

    def __init__(self, file: _File, reader: decord.VideoReader) -> None:
        self._file = file
        self._reader: decord.VideoReader | None = reader

    @classmethod
    def try_open(cls, file: _File, packets: Packets) -> _DecordReader | None:
        """None if decord cannot open the file, or finds other frames than the packets, as of another stream."""
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(file.local, num_threads=1, fault_tol=DECORD_NO_REPEATS)
            if len(reader) != len(packets.pts):
                return None
            seconds = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        except DECORD_ERRORS:
            return None
        seconds -= seconds[0]
        if not np.allclose(seconds, packets.times(range(len(packets.pts))), rtol=1e-6, atol=CLOCK_TOLERANCE_S):
            return None
        return cls(file, reader)

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """Frames of rising, distinct indices."""
        if self._reader is None:
            raise ValueError(f"{self._file.path} was closed")
        try:
            batch = self._reader.get_batch(list(indices)).asnumpy()
        except DECORD_ERRORS as error:
            raise self._file.undecodable(error) from error
        return dict(zip(indices, batch, strict=True))

    def close(self) -> None:
        self._reader = None


class _PyavReader:
    """Seeks to the keyframe at or before a frame, decodes forward and compares timestamps: exact or an error."""

    name = "pyav"

    def __init__(self, file: _File, packets: Packets) -> None:
        self._file = file
        self._packets = packets
        self._place = {pts: index for index, pts in enumerate(packets.pts)}
        self._keys = packets.keys
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: int | None = None
        self.is_plain = self.is_turned = False  # of the frame read last
        try:
            self._container = open_container(file.local)
        except AV_ERRORS as error:
            raise file.undecodable(error) from error

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        try:
            return {index: self._read_one(index) for index in indices}
        except AV_ERRORS as error:
            self._next = None
            raise self._file.undecodable(error) from error

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def _read_one(self, index: int) -> NDArray[np.uint8]:
        if self._packets.counted:
            return self._count_to(index)
        at = bisect_right(self._keys, index) - 1
        key = self._keys[at] if at >= 0 else 0
        fresh = self._next is None or not key <= self._next <= index
        if fresh:
            self._seek(self._packets.key_dts[at] if at >= 0 else self._packets.pts[0])
        for frame in self._frames:
            place = self._place.get(frame.pts)
            if place is not None and place > key and fresh and at > 0:
                # The keyframe is none: the picture is refreshed piece by piece, so it is whole from the start alone.
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
        raise ValueError(f"the decoder does not return frame {index}")

    def _count_to(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` of a file whose times do not tell the frames apart: the decoder returns them in order."""
        if self._next is None or index < self._next:
            self._container.close()
            self._container = open_container(self._file.local)
            self._frames, self._next = self._container.decode(self._container.streams.best("video")), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return self._pixels(frame, index)
        self._next = None
        raise ValueError(f"the decoder does not return frame {index}")

    def _seek(self, dts: int) -> None:
        """Seek by decoding time: some demuxers find keyframes by it, and it is never after the presentation time."""
        stream = self._container.streams.best("video")
        self._container.seek(dts, stream=stream, backward=True)
        self._frames = self._container.decode(stream)

    def _pixels(self, frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
        if frame.is_corrupt:
            raise ValueError(f"frame {index} is corrupt")
        require_colour(frame)
        matrix = display_matrix(frame)
        self.is_plain, self.is_turned = is_plain(frame), not matrix[0]
        return show(frame.to_ndarray(format="rgb24"), matrix)
