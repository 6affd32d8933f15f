"""Five kinds of bad images: motion blur, blur, zoom blur, fog, and glass.

Kinds and strengths are those of LIBERO-Plus (`libero/libero/envs/env_wrapper.py`), which has them from ImageNet-C
(arXiv 1903.12261). Lengths are in pixels of an image of 256 and are scaled to other sizes. Fog is drawn from octaves
of smooth noise, glass by moving all pixels at once, which differs from theirs in the details.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

KINDS = ("motion", "blur", "zoom", "fog", "glass")

STRENGTHS = tuple(range(1, 11))

SIZE = 256
"""Side of the images that the lengths below are for."""

MOTION = ((5, 2), (8, 3), (10, 4), (12, 5), (15, 6), (18, 8), (20, 10), (25, 12), (30, 15), (35, 20))
"""Length of the trail and standard deviation of its weights, pixels."""

ZOOM = (1.10, 1.15, 1.20, 1.25, 1.30, 1.35, 1.40, 1.45, 1.50, 1.55)
"""Largest of the magnifications that are averaged."""

FOG_THICKNESS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
FOG_DECAY = (3.0, 2.8, 2.5, 2.2, 2.0, 1.8, 1.6, 1.5, 1.4, 1.3)
"""Thickness of the fog, and the factor by which each finer octave is weaker."""

GLASS_BLUR = (0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5, 1.8, 2.2, 2.5)
GLASS_REACH = (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
GLASS_TIMES = (3, 3, 3, 2, 2, 2, 2, 2, 1, 1)
"""Blur before and after, largest displacement of a pixel in pixels, and number of repetitions."""

ZOOM_STEPS = 11
"""Magnifications that are averaged; ours."""


def spoiled(image: np.ndarray, kind: str, strength: int, rng: np.random.Generator) -> np.ndarray:
    """An image uint8 [H, W, 3] as from a bad camera, with the same shape and type; kind and strength: of `KINDS`,
    `STRENGTHS`."""
    image = image.astype(np.float32) / 255.0
    scale, index = len(image) / SIZE, strength - 1
    if kind == "motion":
        length, spread = MOTION[index]
        image = _motion(image, length * scale, spread * scale, float(rng.uniform(-45, 45)))
    elif kind == "blur":
        image = _blur(image, strength * scale)
    elif kind == "zoom":
        image = _zoom(image, ZOOM[index])
    elif kind == "fog":
        thick, weaker = FOG_THICKNESS[index], FOG_DECAY[index]
        brightest = image.max()
        cloud = image + thick * _cloud(image.shape[0], image.shape[1], weaker, rng)[..., None]
        image = cloud * brightest / (brightest + thick)
    else:
        image = _glass(image, GLASS_BLUR[index], GLASS_REACH[index], GLASS_TIMES[index], rng)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def _motion(image: np.ndarray, length: float, sigma: float, degrees: float) -> np.ndarray:
    """Behind each pixel trail those in one direction, ever weaker."""
    steps = np.arange(max(1, round(length)) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = image.shape[:2]
    result = np.zeros_like(image)
    for step, weight in zip(steps.tolist(), weights, strict=True):
        down, right = round(step * np.sin(np.radians(degrees))), round(step * np.cos(np.radians(degrees)))
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        result += weight * image[rows[:, None], columns[None]]
    return result


def _zoom(image: np.ndarray, largest: float) -> np.ndarray:
    zoomed = [_magnified(image, factor) for factor in np.linspace(1, largest, ZOOM_STEPS)]
    return (image + np.sum(zoomed, axis=0)) / (ZOOM_STEPS + 1)


def _magnified(image: np.ndarray, factor: float) -> np.ndarray:
    for axis in (0, 1):
        size = image.shape[axis]
        middle = (size - 1) / 2
        image = _sampled(image, middle + (np.arange(size) - middle) / factor, axis)
    return image


def _sampled(image: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation at fractional indices of an axis."""
    low = np.clip(np.floor(places).astype(int), 0, image.shape[axis] - 1)
    high = np.minimum(low + 1, image.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return image.take(low, axis) * (1 - share) + image.take(high, axis) * share


def _cloud(height: int, width: int, weaker: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of 0..1, float32 [height, width]: octaves of smooth noise, each finer one weaker."""
    total = np.zeros((height, width), np.float32)
    weight, cells = 1.0, 2
    while cells <= max(height, width):
        grid = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
        fine = _sampled(grid, np.linspace(0, cells, height), 0)
        total += weight * _sampled(fine, np.linspace(0, cells, width), 1)
        weight, cells = weight / weaker, cells * 2
    total -= total.min()
    return total / total.max()


def _glass(image: np.ndarray, sigma: float, reach: int, times: int, rng: np.random.Generator) -> np.ndarray:
    """At `SIZE`, because whole pixels are moved, of which a small image has too few."""
    fine = _blur(_resized(image, (SIZE, SIZE)), sigma)
    rows, columns = np.indices((SIZE, SIZE))
    for _ in range(times):
        down, right = rng.integers(-reach, reach + 1, (2, SIZE, SIZE))
        fine = fine[np.clip(rows + down, 0, SIZE - 1), np.clip(columns + right, 0, SIZE - 1)]
    return _resized(_blur(fine, sigma), image.shape[:2])


def _resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, size in enumerate(shape):
        old = image.shape[axis]
        image = _sampled(image, np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1), axis)
    return image
