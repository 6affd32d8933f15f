"""How a decoded frame is shown: its display matrix applied, as ffmpeg does, and what is no colour picture refused."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

Matrix = tuple[int, int, int, int]
"""Signs a, b, c, d of a display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y), apart from a shift."""

UPRIGHT: Matrix = (1, 0, 0, 1)

_UNIT = 1 << 16
"""1.0 in a display matrix (16.16 fixed point)."""

_NEAR = 0.02
"""How far from a quarter turn a matrix may be, as a share: about one degree, as ffmpeg takes it."""

COLOUR_BITS = 8
"""Grey of more bits is a depth map, whatever the flags of the dataset say."""


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """How a frame is turned and mirrored for display.

    Raises:
        ValueError: it is turned by no multiple of 90 degrees.
    """
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return UPRIGHT
    values = np.frombuffer(bytes(stored), np.int32)[[0, 1, 3, 4]] / _UNIT
    length = max(float(np.abs(values).max()), 1 / _UNIT)
    signs = np.rint(values / length)
    a, b, c, d = (int(sign) for sign in signs)
    if np.abs(values / length - signs).max() > _NEAR or abs(a) != abs(d) or abs(b) != abs(c) or abs(a) == abs(b):
        raise ValueError(f"is shown through the matrix {values.round(3).tolist()}, which is no quarter turn")
    return a, b, c, d


def show(pixels: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """A picture [H, W, 3] as it is displayed: [H, W, 3], or [W, H, 3] after a quarter turn."""
    a, b, c, d = matrix
    if a:
        return np.ascontiguousarray(pixels[:: d or 1, ::a])
    return np.ascontiguousarray(pixels.transpose(1, 0, 2)[::b, ::c])


def require_colour(frame: av.VideoFrame) -> None:
    """Raise ValueError for grey of more than 8 bits, which holds distances and no picture."""
    components = frame.format.components
    if len(components) == 1 and components[0].bits > COLOUR_BITS:
        raise ValueError(
            f"is stored as {frame.format.name}, as depth is; a depth map is no view: take it out of source.cameras"
        )


def is_plain(frame: av.VideoFrame) -> bool:
    """Whether decoders agree on how a frame is shown: 8-bit 4:2:0 of limited range, an even height, not turned."""
    even = frame.height % 2 == 0
    limited = frame.color_range != ColorRange.JPEG
    return frame.format.name == "yuv420p" and even and limited and display_matrix(frame) == UPRIGHT
