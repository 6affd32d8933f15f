"""Frame readers: every frame of one view in order, with its time."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_KINDS = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")
_ORIENTATION = 0x0112
_WAY_UP: Mapping[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.transpose(1, 0, 2), 2),
    8: np.rot90,
}
"""EXIF orientation (CIPA DC-008, table 6) -> how the stored picture comes the right way up."""

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
    """A JPEG or PNG as RGB uint8 [H, W, 3], the way up that its EXIF data say.

    Raises:
        ValueError: no bytes, another format, damaged, or no opaque picture of 8-bit grey or RGB; the message begins
            with `where`.
    """
    if not isinstance(encoded, bytes) or not encoded:
        raise ValueError(f"{where} holds no image")
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            deep = image.format == "PNG" and encoded[12:16] == b"IHDR" and encoded[24] == 16
            orientation = image.getexif().get(_ORIENTATION, 1)
            pixels = np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
            if deep or image.mode not in _KINDS or (pixels.shape[2] == 4 and (pixels[..., 3] < 255).any()):
                raise ValueError(f"a picture of {'16 bits' if deep else image.mode} is not plainly RGB")
            return _WAY_UP.get(orientation, lambda shown: shown)(pixels[..., :3]).copy()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: {brief(error)}") from error


def brief(error: Exception) -> str:
    """The message of an error as one line of bounded length."""
    return " ".join(str(error).split())[:200]
