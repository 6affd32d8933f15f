"""Frame readers: every frame of one view in order, with its time."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TimedFrame = tuple[float, NDArray[np.uint8]]
"""Seconds after the first frame, RGB uint8 [H, W, 3]."""

FrameReader = Callable[[], Iterator[TimedFrame]]
"""Gives every frame in order of presentation. Raises ValueError when one cannot be read."""


def drop_last_frames(reader: FrameReader, count: int) -> FrameReader:
    """The same frames without the last `count`."""

    def frames() -> Iterator[TimedFrame]:
        held: deque[TimedFrame] = deque()
        for frame in reader():
            held.append(frame)
            if len(held) > count:
                yield held.popleft()

    return frames if count else reader


def decode_image(encoded: object, where: str) -> NDArray[np.uint8]:
    """A JPEG or PNG as RGB uint8 [H, W, 3].

    Raises:
        ValueError: no bytes, another format, or damaged; the message begins with `where`.
    """
    if not isinstance(encoded, bytes) or not encoded:
        raise ValueError(f"{where} holds no image")
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: {brief(error)}") from error


def brief(error: Exception) -> str:
    """The message of an error as one line of bounded length."""
    return " ".join(str(error).split())[:200]
