"""A video decoded from its first frame to its last, without a seek: the count of frames shown is the frame index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def read_video(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds after the first frame and RGB uint8 [H, W, 3] of every frame, in order of presentation.

    Raises:
        ValueError: the file is missing, has no video, or a frame does not decode.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise ValueError("holds no video")
            start: float | None = None
            for index, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise ValueError(f"frame {index} is corrupt")
                start = frame.time if start is None else start
                pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                yield frame.time - start, np.rot90(pixels, k=int(frame.rotation) // 90)
    except av.FFmpegError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
