"""A stored JPEG or PNG as the picture that it shows. What could only be converted by a guess is refused."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.sources.metadata import undecodable

_PNG_DEPTH = 24
"""Place of a PNG's bits a channel: after its signature and the length, name, width and height of its first chunk."""

MODES = ("1", "L", "P", "RGB")
"""Pillow's modes of pictures that have one reading in RGB."""


def decode_image(encoded: bytes, where: str) -> NDArray[np.uint8]:
    """A JPEG or PNG -> RGB uint8 [H, W, 3], turned and mirrored as its EXIF orientation says.

    Raises:
        EpisodeError: "undecodable", with `where` and the decoder's message: truncated, of another format, of more than
            8 bits a channel (a depth map), in colours for printing, or transparent.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            _require_plain(image, encoded)
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise undecodable(where, error) from error


def _require_plain(image: Image.Image, encoded: bytes) -> None:
    """Raise ValueError for a picture whose conversion to RGB would be a guess."""
    if image.format not in ("JPEG", "PNG"):
        raise ValueError(f"a {image.format} image, expected JPEG or PNG")
    if image.format == "PNG" and encoded[_PNG_DEPTH] > 8:
        raise ValueError(
            "has 16 bits a channel, as a depth map, which is no view; take the camera out of source.cameras, or store "
            "its pictures with 8 bits"
        )
    if image.mode in MODES and not image.has_transparency_data:
        return
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if alpha is None or alpha.getextrema() != (255, 255):
        found = "is transparent" if alpha is not None else f"has the colours {image.mode}"
        raise ValueError(f"{found}, which RGB cannot hold; store its pictures as RGB or grey")
