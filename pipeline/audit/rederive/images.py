"""Stored images compared with frames of the raw data, resized and encoded again.

Where the libraries are those of the build, the bytes must be equal. Where they are not, and the auditor asked for an
inexact audit, the quantised DCT coefficients are compared block by block, and what differs may not look like any other
frame: a ghost of a later frame would.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.parsers.jpeg import parse_jpeg
from pipeline.audit.rederive.jpeg_coefficients import decode_coefficients
from pipeline.audit.rederive.reencode import EncoderClaim
from pipeline.audit.selection.idle import IdleRule
from pipeline.audit.selection.windows import WindowRule

COEFFICIENT_STEPS = 1
"""Largest difference of a coefficient, in steps of its quantisation."""

BLOCK_SHARE = 0.25
"""Largest share of the coefficients of one block, over its three components, that may differ."""

IMAGE_SHARE = 0.05
"""Largest share of all coefficients of an image that may differ. A ghost of 1 % of a frame 10 frames later changes 1 to
3 % of them, by up to 8 steps, in real clips."""

GHOST_DEVIATIONS = 6.0
"""Standard deviations by which the differences may follow the way to another frame, if each had a random sign."""


@dataclass(frozen=True)
class Facts:
    """What holds for the whole build.

    exact    the libraries are those that made it, so JPEGs are equal to the byte
    windows  which frames are windows, and which of them are left out as idle; None: not compared
    """

    views: tuple[str, ...]
    image_size: int
    jpeg_quality: int
    exact: bool
    encoder: EncoderClaim
    windows: tuple[WindowRule, IdleRule] | None = None


@dataclass(frozen=True)
class ImageMatch:
    """A stored JPEG beside the frame it must be.

    problem     why it is not the frame, "" when it is
    own         coefficients of the frame encoded here, int32 [3, blocks, 64]
    difference  stored - own; None when the bytes are equal (or `problem` says what is wrong)
    """

    problem: str
    own: NDArray[np.int32] | None = None
    difference: NDArray[np.int32] | None = None


def match_image(stored: bytes | None, frame: NDArray[np.uint8], facts: Facts) -> ImageMatch:
    """Compare a stored JPEG with a raw frame."""
    if stored is None:
        return ImageMatch("it is missing")
    expected = _encoded(frame, facts)
    if stored == expected:
        return ImageMatch("")
    if facts.exact:
        return ImageMatch(f"its bytes differ, mean difference {_gap(stored, expected):.2f} grey levels")
    if problem := parse_jpeg(stored, facts.image_size).problem:
        return ImageMatch(f"it {problem}")
    try:
        header, found = decode_coefficients(stored)
    except (ValueError, IndexError) as error:
        return ImageMatch(f"its coefficients cannot be read: {error}")
    wanted, own = decode_coefficients(expected)
    if header != wanted:
        return ImageMatch("its tables or headers are not those of the encoder")
    problem = _outside(found - own)
    return ImageMatch(problem) if problem else ImageMatch("", own, found - own)


def ghost(match: ImageMatch, other: NDArray[np.uint8], facts: Facts) -> float:
    """How far what differs in an image follows the way from its own frame to another one, in standard deviations.

    Args:
        match: of an image that passed and whose bytes differ.
    """
    assert match.own is not None
    assert match.difference is not None
    way = (decode_coefficients(_encoded(other, facts))[1] - match.own).ravel().astype(np.float64)
    difference = match.difference.ravel().astype(np.float64)
    spread = float(np.linalg.norm(way * difference))
    return float(way @ difference) / spread if spread > 0 else 0.0


def image_gap(stored: bytes, frame: NDArray[np.uint8], facts: Facts) -> float:
    """Mean difference of a stored JPEG from a raw frame in grey levels, 0..255; 255 when it cannot be decoded."""
    return _gap(stored, _encoded(frame, facts))


def _outside(difference: NDArray[np.int32]) -> str:
    """Which bound the differences [3, blocks, 64] exceed; "" when none."""
    largest = int(np.abs(difference).max())
    if largest > COEFFICIENT_STEPS:
        return f"a DCT coefficient differs by {largest} quantisation steps, {COEFFICIENT_STEPS} allowed"
    block = float((difference != 0).mean(axis=(0, 2)).max())
    if block > BLOCK_SHARE:
        return f"{block:.0%} of the DCT coefficients of a block differ, {BLOCK_SHARE:.0%} allowed"
    image = float((difference != 0).mean())
    return f"{image:.1%} of its DCT coefficients differ, {IMAGE_SHARE:.0%} allowed" if image > IMAGE_SHARE else ""


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
        found, wanted = (Image.open(io.BytesIO(jpeg), formats=("JPEG",)) for jpeg in (stored, expected))
        if found.size != wanted.size:
            return 255.0
        a, b = (np.asarray(image.convert("RGB"), np.int16) for image in (found, wanted))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 255.0
    return float(np.abs(a - b).mean())
