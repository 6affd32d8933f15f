"""Stored pictures: what they show is read, what could only be guessed is refused, by both readers."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.decoding import frames
from pipeline.errors import EpisodeError
from pipeline.sources.video.stored_image import decode_image

Pixels = NDArray[np.uint8]


def colours(height: int = 24, width: int = 40) -> Pixels:
    return np.random.default_rng(3).integers(0, 255, (height, width, 3)).astype(np.uint8)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(encoded: bytes) -> Pixels:
    """By both readers, which must agree."""
    pixels = decode_image(encoded, "here")
    np.testing.assert_array_equal(pixels, frames.decode_image(encoded, "here"))
    assert pixels.dtype == np.uint8
    return pixels


def refusal(encoded: bytes) -> str:
    with pytest.raises(ValueError, match=r"^here: "):
        frames.decode_image(encoded, "here")
    with pytest.raises(EpisodeError, match="here: ") as caught:
        decode_image(encoded, "here")
    assert caught.value.reason == "undecodable"
    return caught.value.detail


SHOWN: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p[::-1].transpose(1, 0, 2),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_orientation_of_a_camera_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode_image(stored(Image.fromarray(colours()), kind), "here")
    found = read(stored(Image.fromarray(colours()), kind, exif=exif))
    np.testing.assert_array_equal(found, SHOWN[orientation](plain))


def test_grey_and_palette_are_pictures() -> None:
    grey = colours()[..., 0]
    np.testing.assert_array_equal(read(stored(Image.fromarray(grey))), grey[..., None].repeat(3, 2))
    palette = Image.fromarray(colours()).quantize(16)
    np.testing.assert_array_equal(read(stored(palette)), np.array(palette.convert("RGB")))
    opaque = np.dstack([colours(), np.full((24, 40), 255, np.uint8)])
    np.testing.assert_array_equal(read(stored(Image.fromarray(opaque))), colours())


def deep_colour() -> bytes:
    """A PNG of 16-bit RGB, which Pillow reads as 8 bits without a word."""
    import cv2

    done, encoded = cv2.imencode(".png", np.arange(24 * 40 * 3, dtype=np.uint16).reshape(24, 40, 3) * 20)
    assert done
    return encoded.tobytes()


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        (stored(Image.fromarray(np.arange(960, dtype=np.uint16).reshape(24, 40) * 60)), "16 bits a channel"),
        (deep_colour(), "16 bits a channel"),
        (stored(Image.fromarray(np.dstack([colours(), colours()[..., 0]]))), "transparent"),
        (stored(Image.fromarray(colours()).quantize(4), transparency=0), "transparent"),
        (stored(Image.new("CMYK", (40, 24), (10, 200, 30, 40)), "JPEG"), "colours CMYK"),
        (stored(Image.fromarray(colours()), "TIFF"), "TIFF"),
        (stored(Image.fromarray(colours()))[:300], "truncated"),
    ],
    ids=["deep grey", "deep colour", "transparent", "a transparent colour", "print", "another format", "cut"],
)
def test_what_could_only_be_guessed_is_refused(encoded: bytes, why: str) -> None:
    detail = refusal(encoded)
    if why != "TIFF":
        assert why in detail
