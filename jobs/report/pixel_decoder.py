"""Latents as pictures of a kind: a linear map from a token to its patch of pixels.

Shards hold no picture of the future, so the map is learned from the present: latents of the last step that a sample's
inputs show, and the input image. What it draws of a future is what such a map makes of it, no photograph: a thing that
moves, which the images of the present may never show, comes out as noise.

Letters: M tokens, N tokens of a step and view, D latent width, P side of a patch in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PENALTIES = tuple(10.0**power for power in range(-6, 2))
"""Of the weights' squares, over the latents' mean variance."""
ALLOWED = 0.02
"""R^2 that a smoother map may lose to the best: a future lies outside of what was fitted, where small weights do less
harm."""
FEWEST = 4
"""Samples to fit on and to try the fit."""
LARGEST = 20_000
"""Tokens that are fitted on."""


@dataclass(frozen=True)
class PixelDecoder:
    """weights float64 [D, P*P*3]; latent_mean [D]; patch_mean [P*P*3], of 0 to 255; explained: R^2 on tokens of samples
    that were not fitted on."""

    weights: NDArray[np.float64]
    latent_mean: NDArray[np.float64]
    patch_mean: NDArray[np.float64]
    explained: float

    def draw(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[N, D] -> uint8 [sqrt(N)*P, sqrt(N)*P, 3]."""
        patches = (latents - self.latent_mean) @ self.weights + self.patch_mean
        grid, side = math.isqrt(len(latents)), math.isqrt(patches.shape[1] // 3)
        image = patches.reshape(grid, grid, side, side, 3).swapaxes(1, 2).reshape(grid * side, grid * side, 3)
        return image.round().clip(0, 255).astype(np.uint8)


def fit_pixels(latents: NDArray[np.float32], images: NDArray[np.uint8]) -> PixelDecoder:
    """A ridge regression, its penalty chosen on the last quarter of the samples.

    Args:
        latents: [B, N, D].
        images: [B, H, W, 3]; made to whole patches if N tokens do not divide them.

    Raises:
        ValueError: there are fewer than FEWEST samples, N is no square number, or a latent is not finite.
    """
    grid = math.isqrt(latents.shape[1])
    if len(latents) < FEWEST or grid * grid != latents.shape[1] or not np.isfinite(latents).all():
        raise ValueError(f"pictures need {FEWEST} samples of a square of finite latents, got {latents.shape}")
    count = min(len(latents), max(FEWEST, LARGEST // latents.shape[1]))
    x, y = latents[:count].astype(np.float64), np.stack([_patches(each, grid) for each in images[:count]])
    cut = count * 3 // 4
    (x, held_x), (y, held_y) = ((each[:cut], each[cut:]) for each in (x, y))
    x, y, held_x, held_y = (each.reshape(-1, each.shape[-1]) for each in (x, y, held_x, held_y))
    mean, patch = x.mean(axis=0), y.mean(axis=0)
    values, directions = np.linalg.eigh((x - mean).T @ (x - mean))
    fitted = directions.T @ ((x - mean).T @ (y - patch))
    spread = max(float(values.mean()), np.finfo(float).tiny)
    tried = [directions @ (fitted / (values.clip(0) + each * spread)[:, None]) for each in PENALTIES]
    total = max(float(((held_y - patch) ** 2).sum()), np.finfo(float).tiny)
    scores = [1 - float(((held_y - patch - (held_x - mean) @ each) ** 2).sum()) / total for each in tried]
    chosen = max(i for i, score in enumerate(scores) if score >= max(scores) - ALLOWED)
    return PixelDecoder(tried[chosen], mean, patch, scores[chosen])


def _patches(image: NDArray[np.uint8], grid: int) -> NDArray[np.float64]:
    """uint8 [H, W, 3] -> [N, P*P*3]."""
    side = max(1, min(image.shape[:2]) // grid)
    if image.shape[:2] != (grid * side, grid * side):
        image = np.asarray(Image.fromarray(image).resize((grid * side, grid * side)))
    patches = image.reshape(grid, side, grid, side, 3).swapaxes(1, 2).reshape(grid * grid, -1)
    return patches.astype(np.float64)
