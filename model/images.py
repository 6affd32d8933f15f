"""Camera images -> the patches Qwen3-VL's vision tower takes, as one batched tensor operation.

Equal to the `Qwen2VLImageProcessor` of transformers with patch 16, merge 2, temporal patch 2, mean and std 0.5; where
an image has to be resized first, within one grey level of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PATCH = 16
MERGE = 2
TEMPORAL = 2
MEAN = 0.5
STD = 0.5


def image_token_count(size: int) -> int:
    """Tokens a square image of `size` pixels a side takes in the prompt (224 -> 49)."""
    return (size // (PATCH * MERGE)) ** 2


def image_patches(images: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut images into patches.

    Args:
        images: uint8 [M, H, W, 3], RGB.
        size: pixels a side of what is cut, a multiple of 32; other images are resized to it (bicubic, antialiased).

    Returns:
        patches float32 [M * (size/16)**2, 1536]: groups of 2 x 2 neighbours together, each patch channel by channel
        and twice in time; and the grid int64 [M, 3], (1, size/16, size/16) an image, on the CPU.

    Raises:
        TypeError: the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 RGB in 0..255, got {images.dtype}")
    pixels = images.permute(0, 3, 1, 2).float()
    if pixels.shape[-2:] != (size, size):
        pixels = _resized(_resized(pixels, (pixels.shape[-2], size)), (size, size))
    pixels = (pixels / 255 - MEAN) / STD
    count, grid = len(pixels), size // PATCH
    # [M, C, gh, mh, ph, gw, mw, pw] -> [M, gh, gw, mh, mw, C, ph, pw]
    cut = pixels.reshape(count, 3, grid // MERGE, MERGE, PATCH, grid // MERGE, MERGE, PATCH)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
    cut = cut.expand(-1, -1, -1, -1, -1, -1, TEMPORAL, -1, -1)
    return cut.reshape(count * grid * grid, -1), torch.tensor([[1, grid, grid]]).expand(count, -1)


def _resized(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bicubic to whole grey levels. Along one axis at a time, since Pillow rounds and clips between the two."""
    out = functional.interpolate(pixels, shape, mode="bicubic", antialias=True, align_corners=False)
    return out.round().clamp(0, 255)
