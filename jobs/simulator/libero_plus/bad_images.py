"""LIBERO-Plus's bad images: five kinds at ten strengths, on images of 256 x 256 with the bottom row first.

It has them from ImageNet-C (arXiv 1903.12261), with strengths of its own; its glass reaches only 224 pixels from the
corner where the image begins, and copies a pixel where ImageNet-C swaps two. Chance is drawn from another generator.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

SIZE = 256
"""Side of the images, pixels."""

STRENGTHS = 10

MOTION = ((5, 2), (8, 3), (10, 4), (12, 5), (15, 6), (18, 8), (20, 10), (25, 12), (30, 15), (35, 20))
"""Radius of ImageMagick's trail, and standard deviation of its weights, pixels."""

ZOOM = (
    *((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    *((1.36, 0.01), (1.41, 0.01), (1.46, 0.02), (1.51, 0.02), (1.56, 0.03)),
)
"""End and step of the magnifications, from 1 on, that are averaged."""

FOG = (
    *((0.5, 3.0), (1.0, 2.8), (1.5, 2.5), (2.0, 2.2), (2.5, 2.0)),
    *((3.0, 1.8), (3.5, 1.6), (4.0, 1.5), (4.5, 1.4), (5.0, 1.3)),
)
"""Thickness, and by how much each finer grid of the cloud varies less."""

GLASS = (
    *((0.5, 1, 3), (0.7, 1, 3), (0.9, 2, 3), (1.0, 2, 2), (1.1, 3, 2)),
    *((1.3, 3, 2), (1.5, 4, 2), (1.8, 4, 2), (2.2, 5, 1), (2.5, 5, 1)),
)
"""Standard deviation of the blur before and after, pixels; how far a pixel comes from, and how often."""

GLASS_SIDE = 224


def spoiled(image: np.ndarray, noise: int, rng: np.random.Generator) -> np.ndarray:
    """The image uint8 [256, 256, 3], bottom row first, as by the noise 1 to 50 of `names.Change`, likewise. Raises
    ValueError for another size."""
    if image.shape != (SIZE, SIZE, 3):
        raise ValueError(f"LIBERO-Plus's noise is for images of {SIZE} x {SIZE} pixels, got {list(image.shape)}")
    kind, strength = divmod(noise - 1, STRENGTHS)
    if kind == 0:
        return motion(image, *MOTION[strength], degrees=rng.uniform(-45, 45))
    values = image / 255.0
    if kind == 1:
        values = blurred(values, strength + 1)
    elif kind == 2:
        values = zoomed(values.astype(np.float32), *ZOOM[strength])
    elif kind == 3:
        values = fogged(values, *FOG[strength], rng)
    else:
        values = behind_glass(values, *GLASS[strength], rng)
    return np.asarray(np.clip(values, 0, 1) * 255).astype(np.uint8)


def motion(image: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Each pixel with those behind it in one direction, ever weaker, as ImageMagick has it."""
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    way = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    right, down = (np.ceil(steps * part - 0.5).astype(int) for part in way)
    places = np.arange(len(image))
    total = np.zeros(image.shape)
    for weight, x, y in zip(weights, right, down, strict=True):
        rows, columns = (np.clip(places + by, 0, len(image) - 1) for by in (y, x))
        total += weight * image[rows[:, None], columns[None]]
    return np.asarray(total.astype(np.uint8))


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blurred by a standard deviation in pixels."""
    return np.asarray(gaussian_filter(values, (sigma, sigma, 0), mode="nearest"))


def zoomed(values: np.ndarray, end: float, step: float) -> np.ndarray:
    """The mean of the image, again the image, and ever larger middles of it."""
    factors = np.arange(1, end, step)
    total = values + sum(_magnified(values, float(factor)) for factor in factors)
    return np.asarray(total / (len(factors) + 1))


def _magnified(values: np.ndarray, factor: float) -> np.ndarray:
    side = len(values)
    part = math.ceil(side / factor)
    begin = (side - part) // 2
    large = zoom(values[begin : begin + part, begin : begin + part], (factor, factor, 1), order=1)
    begin = (len(large) - side) // 2
    return np.asarray(large[begin : begin + side, begin : begin + side])


def fogged(values: np.ndarray, thickness: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Under a cloud; the brightest place stays as bright."""
    brightest = values.max()
    return np.asarray((values + thickness * cloud(decay, rng)[..., None]) * brightest / (brightest + thickness))


def cloud(decay: float, rng: np.random.Generator) -> np.ndarray:
    """A height map by diamonds and squares, float64 [256, 256] of 0 to 1: on ever finer grids, wrapped around, each
    new point is the mean of its four neighbours and a random amount."""
    height, step, size = np.zeros((SIZE, SIZE)), SIZE, 100.0
    while step >= 2:
        half = step // 2
        corners = height[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        height[half::step, half::step] = _varied(pairs + np.roll(pairs, -1, 1), size, rng)
        middles = height[half::step, half::step]
        above = corners + np.roll(corners, -1, 1) + middles + np.roll(middles, 1, 0)
        height[::step, half::step] = _varied(above, size, rng)
        beside = corners + np.roll(corners, -1, 0) + middles + np.roll(middles, 1, 1)
        height[half::step, ::step] = _varied(beside, size, rng)
        step, size = half, size / decay
    height -= height.min()
    return np.asarray(height / height.max())


def _varied(four: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(four / 4 + size * rng.uniform(-size, size, four.shape))


def behind_glass(values: np.ndarray, sigma: float, reach: int, times: int, rng: np.random.Generator) -> np.ndarray:
    """Blurred, pixels taken from near places one after the other, and blurred again."""
    image = (blurred(values, sigma) * 255).astype(np.uint8)
    places = list(range(SIZE * SIZE))  # where each pixel's value is from
    for _ in range(times):
        last = GLASS_SIDE - reach
        count = (last - reach) ** 2
        steps = iter((rng.integers(-reach, reach, (count, 2)) @ np.array([1, SIZE])).tolist())  # columns, rows
        for row in range(last, reach, -1):
            for here in range(row * SIZE + last, row * SIZE + reach, -1):
                places[here] = places[here + next(steps)]
    image = image.reshape(-1, 3)[places].reshape(SIZE, SIZE, 3)
    return blurred(image / 255.0, sigma)
