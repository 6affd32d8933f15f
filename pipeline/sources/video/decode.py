"""Video file and frame indices to RGB pixels: uint8 [T, H, W, 3].

There are two decoders. decord reads VP9, and so Something-Something-v2. PyAV reads all other codecs, among them AV1,
which LeRobot writes by default and decord 0.6 cannot open. The reason is that decord 0.6 gives wrong frames silently:

- after a seek it counts frames in decoding order. With reordered frames (H.264, HEVC and MPEG-4 with B-frames around a
  keyframe) it returns a neighbour, often a later frame, which would be leakage;
- a packet that shows no frame shifts its count in the same way;
- it does not report frames that the H.264 decoder concealed after damage; PyAV does.

- it cannot decode some small or unusual sizes, and it converts the colours of odd heights otherwise;
- it ignores mirroring;
- of a film whose size changes it gives every picture the size of the first.

decord therefore reads a file only if every packet shows one frame, in order (`Packets.plain`; VP9 of more than one size
is refused there), if the picture is plain (`is_plain`), if it finds the same frames at the same times as the packets,
and if its first frame is PyAV's to the bit. A file in which decord meets a frame that it cannot decode is read by PyAV
from there on. All facts about a video come from the decoder that reads it, or were compared with it. A frame that
neither decodes is an EpisodeError and is never replaced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Self

import av  # noqa: F401  # before decord: both bring a libvpx, and the first that is loaded serves both
import decord
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.files import file_identity
from pipeline.sources.known_hashes import Identity
from pipeline.sources.video.decoded_frames import DecodedFrames
from pipeline.sources.video.frame_readers import check_indices
from pipeline.sources.video.packets import Packets, read_packets
from pipeline.sources.video.pyav_reader import AV_ERRORS, FileDecoding, PyavReader, VideoFile
from pipeline.storage.raw.places import on_disk

DECORD_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, StopIteration)

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
            file = VideoFile(self.path, local)
            packets = _packets_of(file)
            self._file, self._reader = file, _open_reader(file, packets)
            opened.callback(lambda: self._reader.close())
            self._packets, self.num_frames = packets, len(packets.pts)
            self.codec, self.fps, self.decoder = packets.codec, packets.fps, self._reader.name
            self._decoded = DecodedFrames(self.path, self.num_frames, self._read)
            self.height, self.width = self._decoded.height, self._decoded.width
            self.is_turned = self._reader.is_turned
            self._opened = opened.pop_all()

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `DecodedFrames.frames`."""
        return self._decoded.frames(indices)

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
        self._decoded.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        try:
            return self._reader.read(indices)
        except EpisodeError:
            if self._reader.name == PyavReader.name:
                raise
        self._reader.close()
        self._reader = PyavReader(self._file, self._packets, FileDecoding(self._file))
        self.decoder = self._reader.name
        return self._reader.read(indices)


def _packets_of(file: VideoFile) -> Packets:
    try:
        return _read_packets(file, file_identity(file.path))
    except AV_ERRORS as error:
        raise file.undecodable(error) from error


@lru_cache(maxsize=4)
def _read_packets(file: VideoFile, identity: Identity) -> Packets:
    """Cached per version of the file: the two jobs of a shard and windows of an episode come back to it."""
    return read_packets(file.local)


def _open_reader(file: VideoFile, packets: Packets) -> _DecordReader | PyavReader:
    """decord if it is exact and can read the file, else PyAV."""
    exact = PyavReader(file, packets, FileDecoding(file))
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

    def __init__(self, file: VideoFile, reader: decord.VideoReader) -> None:
        self._file = file
        self._reader: decord.VideoReader | None = reader

    @classmethod
    def try_open(cls, file: VideoFile, packets: Packets) -> _DecordReader | None:
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
