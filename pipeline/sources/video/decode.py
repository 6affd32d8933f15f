"""Video file and frame indices to RGB pixels: uint8 [T, H, W, 3].

Two decoders share the work: decord reads VP9 (and so Something-Something-v2), PyAV reads the rest, among it AV1, which
decord 0.6 cannot open and LeRobot writes by default. The split follows from what decord 0.6 does in silence:

- after a seek it counts frames in decoding order, so where frames are reordered (H.264, HEVC and MPEG-4 with B-frames
  around a keyframe) it hands out a neighbour, often a later frame. That would be leakage;
- a packet that shows no frame shifts its count in the same way;
- it does not report images that the H.264 decoder patched up after damage; PyAV does.

Hence decord gets a file only when every packet of it shows one frame, in order (`Packets.plain`), and only when it
counts the same frames at the same times as the packets say. Every fact about a video comes from the decoder that reads
it or was compared with it. A frame that does not decode is an EpisodeError; nothing stands in for it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self

import av
import decord
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.video.packets import Packets, open_container, read_packets

CACHE_BYTES = 64 * 2**20
"""Decoded frames an open video keeps, so that overlapping windows do not decode the same frames again."""

DECORD_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, StopIteration)
AV_ERRORS = (av.FFmpegError, ValueError, IndexError, OSError, MemoryError)

DECORD_NO_REPEATS = 1e-9
"""decord's `fault_tol`, a share of the frames: fail at the first frame it would replace by a neighbour."""

CLOCK_TOLERANCE_S = 2e-3
"""decord reports times as float32, containers as milliseconds."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, from the decoder that reads it.

    num_frames  frames that are shown;  width, height  pixels of the decoded image
    fps         average frames a second
    timestamps  presentation time of each frame in seconds after the first one
    decoder     "decord" or "pyav"
    """

    num_frames: int
    fps: float
    width: int
    height: int
    timestamps: tuple[float, ...]
    decoder: str


class _Reader(Protocol):
    name: str

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """Frames of rising, distinct indices."""
        ...

    def close(self) -> None: ...


class Video:
    """One open video file; use it as a context manager.

    Opening reads all packets (not the pixels) and decodes the first frame, so a file that opens is a video of
    `num_frames` frames. Not safe to share between threads.

    Raises:
        EpisodeError: "missing-file", or "undecodable" with the file and what the decoder said.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise EpisodeError("missing-file", f"{self.path}: no such file")
        packets = _packets_of(self.path)
        self._reader = _open_reader(self.path, packets)
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._seconds = packets.seconds
        self.codec = packets.codec
        try:
            height, width = self._decode([0])[0].shape[:2]
        except EpisodeError:
            self.close()
            raise
        self.info = VideoInfo(
            num_frames=len(packets.pts),
            fps=packets.fps,
            width=width,
            height=height,
            timestamps=tuple(self._seconds.tolist()),
            decoder=self._reader.name,
        )

    @property
    def num_frames(self) -> int:
        """Frames that are shown, in order of presentation."""
        return len(self._seconds)

    @property
    def fps(self) -> float:
        """Average frames a second."""
        return self.info.fps

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3]; any order, repeats allowed.

        Raises:
            EpisodeError: "out-of-range", or "undecodable".
        """
        self._check(indices)
        wanted = set(indices)
        found = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = sorted(wanted - found.keys())
        if missing:
            found.update(self._decode(missing))
        if not indices:
            return np.zeros((0, self.info.height, self.info.width, 3), np.uint8)
        return np.stack([found[i] for i in indices])

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times in seconds after the first frame, float64 [len(indices)].

        Raises:
            EpisodeError: "out-of-range".
        """
        self._check(indices)
        return self._seconds[np.asarray(indices, np.int64)]

    def close(self) -> None:
        """Release the decoder. The video cannot be read any more."""
        self._reader.close()
        self._cache.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, indices: Sequence[int]) -> None:
        bad = [i for i in indices if not 0 <= i < self.num_frames]
        if bad:
            raise EpisodeError("out-of-range", f"{self.path} has frames 0..{self.num_frames - 1}; {bad} were asked for")

    def _decode(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        frames = self._reader.read(indices)
        first = next(iter(self._cache.values()), frames[indices[0]])
        for index in indices:
            frame = frames[index]
            if frame.shape != first.shape:
                raise _undecodable(self.path, f"frame {index} is {frame.shape}, earlier frames are {first.shape}")
            self._cache[index] = frame
        while len(self._cache) * first.nbytes > CACHE_BYTES:
            self._cache.popitem(last=False)
        return frames


def decode_frames(path: str | os.PathLike[str], indices: Sequence[int]) -> NDArray[np.uint8]:
    """Frames of one file, uint8 RGB [len(indices), H, W, 3]. Raises EpisodeError like `Video`."""
    with Video(path) as video:
        return video.frames(indices)


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Facts about one file. Raises EpisodeError like `Video`."""
    with Video(path) as video:
        return video.info


def _undecodable(path: str, detail: object) -> EpisodeError:
    return EpisodeError("undecodable", f"{path}: {' '.join(str(detail).split())[:300] or 'no message'}")


def _packets_of(path: str) -> Packets:
    try:
        stat = os.stat(path)
        return _read_packets(path, stat.st_mtime_ns, stat.st_size)
    except AV_ERRORS as error:
        raise _undecodable(path, error) from error


@lru_cache(maxsize=4)
def _read_packets(path: str, modified: int, size: int) -> Packets:
    """Kept per version of the file: many episodes may share one, and reading its packets reads all of it."""
    return read_packets(path)


def _open_reader(path: str, packets: Packets) -> _Reader:
    """decord where it is exact and can open the file, else PyAV."""
    if packets.plain:
        reader = _DecordReader.try_open(path, packets)
        if reader is not None:
            return reader
    return _PyavReader(path, packets)


class _DecordReader:
    name = "decord"

    def __init__(self, path: str, reader: decord.VideoReader) -> None:
        self._path = path
        self._reader: decord.VideoReader | None = reader

    @classmethod
    def try_open(cls, path: str, packets: Packets) -> _DecordReader | None:
        """None when decord cannot open the file or sees other frames in it than its packets (another stream, say)."""
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(path, num_threads=1, fault_tol=DECORD_NO_REPEATS)
            if len(reader) != len(packets.pts):
                return None
            seconds = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        except DECORD_ERRORS:
            return None
        seconds -= seconds[0]
        if not np.allclose(seconds, packets.seconds, rtol=1e-6, atol=CLOCK_TOLERANCE_S):
            return None
        return cls(path, reader)

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        if self._reader is None:
            raise ValueError(f"{self._path} was closed")
        try:
            batch = self._reader.get_batch(list(indices)).asnumpy()
        except DECORD_ERRORS as error:
            raise _undecodable(self._path, error) from error
        return dict(zip(indices, batch, strict=True))

    def close(self) -> None:
        self._reader = None


class _PyavReader:
    """Seeks to the keyframe at or before the frame, then decodes forward and compares timestamps: exact or an error."""

    name = "pyav"

    def __init__(self, path: str, packets: Packets) -> None:
        self._path = path
        self._packets = packets
        self._place = {pts: index for index, pts in enumerate(packets.pts)}
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: int | None = None
        try:
            self._container = open_container(path)
        except AV_ERRORS as error:
            raise _undecodable(path, error) from error

    def read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        try:
            return {index: self._read_one(index) for index in indices}
        except AV_ERRORS as error:
            self._next = None
            raise _undecodable(self._path, error) from error

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def _read_one(self, index: int) -> NDArray[np.uint8]:
        at = bisect_right(self._packets.keys, index) - 1
        key = self._packets.keys[at] if at >= 0 else 0
        if self._next is None or not key <= self._next <= index:
            self._seek(self._packets.key_dts[at] if at >= 0 else self._packets.pts[0])
        for frame in self._frames:
            place = self._place.get(frame.pts)
            if place is None or place < index:
                continue
            self._next = place + 1
            if place == index:
                return self._pixels(frame, index)
            break
        self._next = None
        raise ValueError(f"frame {index} does not come out of the decoder")

    def _seek(self, dts: int) -> None:
        """By decoding time: some demuxers look keyframes up by it, and it is never later than the presentation time."""
        stream = self._container.streams.best("video")
        self._container.seek(dts, stream=stream, backward=True)
        self._frames = self._container.decode(stream)

    def _pixels(self, frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
        if frame.is_corrupt:
            raise ValueError(f"frame {index} is corrupt")
        pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        # Display rotation is part of the image; decord applies it by itself.
        return np.ascontiguousarray(np.rot90(pixels, k=int(frame.rotation) // 90))
