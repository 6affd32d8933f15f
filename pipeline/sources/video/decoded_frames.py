"""Frames that were decoded, kept for windows that overlap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.metadata import undecodable
from pipeline.sources.video.frame_readers import check_indices

CACHE_BYTES = 64 * 2**20
"""Decoded frames that an open video keeps."""


class DecodedFrames:
    """The frames of a video by number, all of one size.

    Args:
        path: of the video, for messages.
        read: rising, distinct indices -> their frames, RGB uint8 [H, W, 3].
        start: the one that is decoded when this is made.

    Raises:
        EpisodeError: what `read` raises.
    """

    def __init__(
        self,
        path: str,
        num_frames: int,
        read: Callable[[Sequence[int]], dict[int, NDArray[np.uint8]]],
        start: int = 0,
    ) -> None:
        self._path, self._num_frames, self._read = path, num_frames, read
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self.height, self.width = self._decode([start])[start].shape[:2]

    @property
    def kept_bytes(self) -> int:
        """Of the frames that are kept."""
        return sum(frame.nbytes for frame in self._kept.values())

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3]; any order, repeats allowed.

        Raises:
            EpisodeError: "out-of-range", or "undecodable".
        """
        check_indices(indices, self._num_frames, self._path)
        wanted = set(indices)
        found = {i: self._kept[i] for i in wanted if i in self._kept}
        missing = sorted(wanted - found.keys())
        if missing:
            found.update(self._decode(missing))
        if not indices:
            return np.zeros((0, self.height, self.width, 3), np.uint8)
        return np.stack([found[i] for i in indices])

    def clear(self) -> None:
        """Keep none."""
        self._kept.clear()

    def _decode(self, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        frames = self._read(indices)
        first = next(iter(self._kept.values()), frames[indices[0]])
        for index in indices:
            frame = frames[index]
            if frame.shape != first.shape:
                raise undecodable(self._path, f"frame {index} is {frame.shape}, earlier frames are {first.shape}")
            self._kept[index] = frame
        while len(self._kept) * first.nbytes > CACHE_BYTES:
            self._kept.popitem(last=False)
        return frames
