"""Stored images compared with frames of the raw data, resized and encoded again."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.rederive.reencode import EncoderClaim

IMAGE_TOLERANCE = 1.0
"""Mean difference in grey levels from the JPEG encoded again, where other library versions give other bytes. The
neighbouring frames must then differ more than the frame itself."""


@dataclass(frozen=True)
class Facts:
    """What holds for the whole build. `exact`: the libraries are those that made it, so JPEGs are equal to the byte."""

    views: tuple[str, ...]
    image_size: int
    jpeg_quality: int
    exact: bool
    encoder: EncoderClaim


def image_differs(stored: bytes | None, frame: NDArray[np.uint8], facts: Facts) -> str:
    """Why a stored JPEG is not that of a raw frame; "" when it is."""
    if stored is None:
        return "it is missing"
    expected = _encoded(frame, facts)
    if stored == expected:
        return ""
    gap = _gap(stored, expected)
    if facts.exact:
        return f"its bytes differ, mean difference {gap:.2f} grey levels"
    return "" if gap <= IMAGE_TOLERANCE else f"mean difference {gap:.2f} grey levels, {IMAGE_TOLERANCE} allowed"


def image_gap(stored: bytes, frame: NDArray[np.uint8], facts: Facts) -> float:
    """Mean difference of a stored JPEG from a raw frame in grey levels, 0..255; 255 when it cannot be decoded."""
    return _gap(stored, _encoded(frame, facts))


def _encoded(frame: NDArray[np.uint8], facts: Facts) -> bytes:
    image, size = Image.fromarray(np.ascontiguousarray(frame)), (facts.image_size, facts.image_size)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=facts.jpeg_quality, subsampling=0)
    return buffer.getvalue()


def _gap(stored: bytes, expected: bytes) -> float:
    """Mean difference of two JPEGs in grey levels; 255 when they cannot be compared."""
    try:
        a, b = (np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), np.int16) for jpeg in (stored, expected))
    except (OSError, ValueError, Image.DecompressionBombError):
        return 255.0
    return float(np.abs(a - b).mean()) if a.shape == b.shape else 255.0
