"""Frames as thumbnails: small, grey, and normalised in brightness and contrast, so that copies of a frame stay similar.

S side of a thumbnail, F frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""S. Frames of one static scene must differ by what moves in it; 32 still shows a hand or a gripper."""

_BLANK = 2.0
"""Standard deviation in grey levels below which a thumbnail shows nothing (a black or covered camera)."""


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] -> grey uint8 [S, S], each pixel the mean of its area."""
    return np.asarray(Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def descriptors(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [F, S, S] -> float32 [F, S*S] of mean 0 and length 1; zeros for a blank frame."""
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    visible = length > _BLANK * SIDE
    return np.where(visible, values / np.maximum(length, 1e-6), 0).astype(np.float32)


def is_blank(small: NDArray[np.uint8]) -> bool:
    """Whether a thumbnail [S, S] shows nothing."""
    return bool(small.std() <= _BLANK)
