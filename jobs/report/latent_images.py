"""Latents as images: their three main directions become red, green and blue.

Letters: M any number of vectors, N tokens of a step and view, D latent width.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 112
"""Pixels that the side of a latent map has at least."""
FAINTEST = 1e-5
"""A direction whose spread is less than this share of the strongest one's is rounding, and shown as grey."""


@dataclass(frozen=True)
class Colours:
    """How latents become colours: one basis for all images of a page, so that equal colours are equal latents.

    mean   float64 [D]
    basis  float64 [3, D], rows of length 1, of falling variance; the largest entry of each is positive
    low, high  float64 [3], the coordinates that become 0 and 255; equal: the direction is shown as grey
    share  part of the variance that the three directions hold
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share: float


def fit_colours(latents: NDArray[np.float32]) -> Colours:
    """The main directions of latents [..., D] that need not all differ. Outliers (1 % at each end) are clipped. Raises
    ValueError if there is no vector, or one is not finite."""
    vectors = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    if not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(f"colours need at least one latent and finite numbers, got {latents.shape}")
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
    order = np.argsort(variances)[::-1][:3]
    basis = np.zeros((3, len(mean)))
    basis[: len(order)] = directions[:, order].T
    basis *= np.where(basis[np.arange(3), np.abs(basis).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    low, high = np.percentile(centred @ basis.T, [1, 99], axis=0)
    faint = high - low <= FAINTEST * (high - low).max()
    total = variances.clip(0).sum()
    share = float(variances[order].clip(0).sum() / total) if total > 0 else 1.0
    return Colours(mean, basis, low, np.where(faint, low, high), share)


def to_rgb(latents: NDArray[np.float32], colours: Colours) -> NDArray[np.uint8]:
    """Latents [..., D] -> colours uint8 [..., 3]; grey where a latent is not a number."""
    found = (latents.astype(np.float64) - colours.mean) @ colours.basis.T
    spread = colours.high - colours.low
    flat = spread <= 0
    unit = np.where(flat, 0.5, (found - colours.low) / np.where(flat, 1.0, spread))
    return (255 * np.nan_to_num(unit, nan=0.5).clip(0, 1)).round().astype(np.uint8)


def latent_image(latents: NDArray[np.float32], colours: Colours) -> str:
    """The map of one step and view, [N, D], as a data URI: sqrt(N) x sqrt(N) squares of one colour each. Raises
    ValueError if N is no square number."""
    grid = math.isqrt(len(latents))
    if grid * grid != len(latents):
        raise ValueError(f"the tokens of a step must be a square number to be shown as a map, got {len(latents)}")
    pixels = to_rgb(latents, colours).reshape(grid, grid, 3)
    factor = math.ceil(SIDE / grid)
    return png_uri(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def input_image(pixels: NDArray[np.uint8], side: int = 224) -> str:
    """An input image uint8 [H, W, 3] as a data URI, made smaller if it is larger than `side`."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return png_uri(np.asarray(image))


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """uint8 [H, W, 3] as a PNG in a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
