"""Frame readers for views without their own video file: stored images, and a segment of a longer video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.video.clock import clock_times

BLANK = 4
"""An image is blank if its brightest and darkest values differ by fewer grey levels."""


class FrameReader(Protocol):
    """One view of an episode; `pipeline.sources.video.decode.Video` is one. Frames are numbered from 0.

    codec      how the frames are stored, for reports
    is_turned  whether frames are shown after a quarter turn
    """

    @property
    def codec(self) -> str: ...

    @property
    def is_turned(self) -> bool: ...

    @property
    def num_frames(self) -> int: ...

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB uint8 [len(indices), H, W, 3]. Raises EpisodeError."""
        ...

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """Seconds after frame `since`, float64 [len(indices)]: see `clock_times`."""
        ...

    def close(self) -> None: ...


class StoredImages:
    """Images recorded at a fixed rate, decoded one at a time on request.

    Args:
        image: index -> RGB uint8 [H, W, 3]; raises EpisodeError.
        num_frames: number of images.
        fps: images per second.
        codec: see `FrameReader`.
    """

    def __init__(self, image: Callable[[int], NDArray[np.uint8]], num_frames: int, fps: float, codec: str) -> None:
        self.codec, self.num_frames, self.is_turned = codec, num_frames, False
        self._image, self._fps = image, fps

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `FrameReader`. All frames of a view have one size."""
        check_indices(indices, self.num_frames, "the view")
        found = {index: self._image(index) for index in dict.fromkeys(indices)}
        if len({frame.shape for frame in found.values()}) > 1:
            sizes = ", ".join(f"{index}: {frame.shape[:2]}" for index, frame in found.items())
            raise EpisodeError("undecodable", f"images of one view differ in size ({sizes})")
        return np.stack([found[index] for index in indices]) if found else np.zeros((0, 0, 0, 3), np.uint8)

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """See `FrameReader`."""
        check_indices([*indices, since], self.num_frames, "the view")
        return clock_times((index - since for index in indices), 1 / Fraction(self._fps))

    def close(self) -> None:
        """Nothing to release."""


class SegmentReader:
    """Frames start..start+num_frames-1 of a longer video, numbered from 0.

    Raises:
        EpisodeError: "length-mismatch" if the video is too short.
    """

    def __init__(self, reader: FrameReader, start: int, num_frames: int, where: str) -> None:
        if not 0 <= start < start + num_frames <= reader.num_frames:
            needed = f"the episode needs {start}..{start + num_frames - 1} of them"
            raise EpisodeError("length-mismatch", f"{where} has {reader.num_frames} frames; {needed}")
        self.codec, self.num_frames, self.is_turned = reader.codec, num_frames, reader.is_turned
        self._reader, self._start = reader, start

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `FrameReader`."""
        return self._reader.frames(self._moved(indices))

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """See `FrameReader`."""
        return self._reader.timestamps(self._moved(indices), self._start + since)

    def close(self) -> None:
        """Close the longer video."""
        self._reader.close()

    def _moved(self, indices: Sequence[int]) -> list[int]:
        check_indices(indices, self.num_frames, "the segment")
        return [self._start + index for index in indices]


def check_indices(indices: Sequence[int], num_frames: int, what: str) -> None:
    """Raise EpisodeError("out-of-range") unless all of 0..num_frames-1."""
    bad = [index for index in indices if not 0 <= index < num_frames]
    if bad:
        raise EpisodeError("out-of-range", f"{what} has frames 0..{num_frames - 1}; {bad} were requested")


def require_visible(reader: FrameReader, where: str) -> None:
    """Raise EpisodeError("blank-camera") if the first, middle and last frame are blank, as without a camera.

    One blank frame is no error, because a view may begin in the dark.
    """
    last = reader.num_frames - 1
    if all(np.ptp(reader.frames([index])) < BLANK for index in (0, last // 2, last)):
        detail = f"{where}: the first, middle and last frame are blank; choose other source.cameras"
        raise EpisodeError("blank-camera", detail)
