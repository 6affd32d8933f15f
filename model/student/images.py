"""Camera images -> the patches Qwen3-VL's vision tower takes, as one batched tensor operation.

Equal to the PIL image processor of transformers with patch 16, merge 2, temporal patch 2, mean and std 0.5, also where
an image has to be resized first.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

PATCH = 16
MERGE = 2
TEMPORAL = 2
MEAN = 0.5
STD = 0.5

WEIGHT_BITS = 22
"""Precision of Pillow's resampling weights."""


def image_token_count(size: int) -> int:
    """Tokens a square image of `size` pixels a side takes in the prompt (224 -> 49)."""
    return (size // (PATCH * MERGE)) ** 2


def image_patches(images: Tensor, size: int) -> Tensor:
    """Cut images into patches.

    Args:
        images: uint8 [M, H, W, 3], RGB.
        size: pixels a side of what is cut, a multiple of 32; other images are resized to it (bicubic, antialiased).

    Returns:
        float32 [M * (size/16)**2, 3, 2, 16, 16]: groups of 2 x 2 neighbours together; the two in time are one and the
        same memory, which the vision tower's own cast or projection then writes out.

    Raises:
        TypeError: the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 RGB in 0..255, got {images.dtype}")
    if images.shape[1:3] != (size, size):
        images = _resized(images, size)
    count, grid = len(images), size // PATCH
    # [M, gh, mh, ph, gw, mw, pw, C] -> [M, gh, gw, mh, mw, C, ph, pw], as long as a pixel is one byte
    cut = images.reshape(count, grid // MERGE, MERGE, PATCH, grid // MERGE, MERGE, PATCH, 3)
    cut = cut.permute(0, 1, 4, 2, 5, 7, 3, 6).contiguous()
    pixels = cut.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)
    return pixels.reshape(count * grid * grid, 3, 1, PATCH, PATCH).expand(-1, -1, TEMPORAL, -1, -1)


def _resized(images: Tensor, size: int) -> Tensor:
    """Bicubic and antialiased, uint8 [M, H, W, 3] -> uint8 [M, size, size, 3], bit for bit as Pillow does it.

    Pillow computes in whole numbers: weights in units of 2**-22, columns first, rounded and clipped to a byte between
    the two axes. Sums stay below 2**53, so float64 holds them exactly.
    """
    pixels = images.permute(0, 3, 1, 2).double()
    for axis in (3, 2):
        weights = _resampling(pixels.shape[axis], size).to(pixels.device)
        pixels = torch.tensordot(pixels, weights, dims=([axis], [1])).movedim(-1, axis)
        pixels = torch.floor(pixels / 2**WEIGHT_BITS + 0.5).clamp_(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


@functools.lru_cache(maxsize=16)
def _resampling(source: int, size: int) -> Tensor:
    """Pillow's bicubic weights (a = -0.5), float64 [size, source], whole numbers of 2**-22."""
    scale = source / size
    widening = max(scale, 1.0)
    reach = 2.0 * widening
    weights = torch.zeros(size, source, dtype=torch.float64)
    for i in range(size):
        centre = (i + 0.5) * scale
        first, last = max(0, int(centre - reach + 0.5)), min(source, int(centre + reach + 0.5))
        row = [_bicubic((x - centre + 0.5) / widening) for x in range(first, last)]
        total = sum(row)
        weights[i, first:last] = torch.tensor([_whole(w / total * 2**WEIGHT_BITS) for w in row], dtype=torch.float64)
    return weights


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def _whole(x: float) -> int:
    """Half away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))
