"""Films that are single pictures, recorded at a fixed rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.base import FrameReader


def picture_film(picture: Callable[[int], NDArray[np.uint8]], count: int, fps: float) -> FrameReader:
    """A film of `count` pictures, RGB uint8 [H, W, 3], each made when it is shown."""

    def shown() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for index in range(count):
            yield index / fps, picture(index)

    return shown


def decode_picture(encoded: object, where: str) -> NDArray[np.uint8]:
    """A JPEG or PNG -> RGB uint8 [H, W, 3].

    Raises:
        ValueError: no bytes, another format, or damaged; the message begins with `where`.
    """
    if not isinstance(encoded, bytes) or not encoded:
        raise ValueError(f"{where} holds no picture")
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())[:200]}") from error
