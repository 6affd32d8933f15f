"""A contact sheet of a dataset: one row per episode with the first, middle and last frame of every camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.inspection.checks import Strip

TILE = 160
MARGIN = 6
CAPTION = 16


def draw_contact_sheet(strips: Sequence[Strip]) -> Image.Image:
    """Rows of frames with the episode's id and text above, and camera and frame number on each image."""
    columns = max((len(strip.frames) for strip in strips), default=1)
    tiles = [[_tile(frame) for _, _, frame in strip.frames] for strip in strips]
    heights = [max((tile.height for tile in row), default=0) for row in tiles]
    width = MARGIN + columns * (TILE + MARGIN)
    sheet = Image.new("RGB", (max(width, 360), MARGIN + sum(heights) + len(strips) * (CAPTION + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for strip, row, height in zip(strips, tiles, heights, strict=True):
        draw.text((MARGIN, top), _plain(f"{strip.episode}: {strip.text}", sheet.width // 6), fill="black")
        top += CAPTION
        for column, ((view, index, _), tile) in enumerate(zip(strip.frames, row, strict=True)):
            left = MARGIN + column * (TILE + MARGIN)
            sheet.paste(tile, (left, top))
            _label(draw, left, top, _plain(f"{view} {index}", TILE // 6))
        top += height + MARGIN
    return sheet


def _tile(frame: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(frame))
    return image.resize((TILE, max(1, round(TILE * image.height / image.width))), Image.Resampling.BILINEAR)


def _label(draw: ImageDraw.ImageDraw, left: int, top: int, text: str) -> None:
    draw.rectangle((left, top, left + 6 * len(text) + 4, top + 13), fill="black")
    draw.text((left + 2, top + 1), text, fill="white")


def _plain(text: str, limit: int) -> str:
    """The text in characters that Pillow's built-in font can draw, cut to a number of letters."""
    shown = text.encode("latin-1", "replace").decode("latin-1")
    return shown if len(shown) <= limit else shown[: max(1, limit - 1)] + "~"
