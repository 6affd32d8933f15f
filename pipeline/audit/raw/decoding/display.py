"""Pictures as they are displayed: the display matrix of a video frame and the orientation of a photograph."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


def displayed(pixels: NDArray[np.uint8], matrix: Any) -> NDArray[np.uint8]:
    """A decoded frame [H, W, 3], mirrored and turned as its display matrix says (None: as it is).

    Raises:
        ValueError: the matrix turns it by another angle than quarter turns.
    """
    if matrix is None:
        return pixels
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])
    angle = math.degrees(math.atan2(b, a))  # clockwise; the x axis of the picture points there
    turns = round(angle / 90)
    straight = abs(angle - 90 * turns) < 1
    if not straight or abs(a * c + b * d) > 0.02 * (math.hypot(a, b) * math.hypot(c, d)) or not a * d - b * c:
        raise ValueError(f"a frame is displayed through the matrix {(a, b, c, d)}, no quarter turn")
    # A negative determinant mirrors: the y axis is turned over before the turn.
    mirrored = pixels[::-1] if a * d - b * c < 0 else pixels
    return np.rot90(mirrored, k=-turns).copy()
