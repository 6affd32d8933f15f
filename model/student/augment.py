"""Augmentation of the student's images. Targets are never touched: they come from what was on disk."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(images: Tensor, most: int, generator: torch.Generator | None = None) -> Tensor:
    """Move each image by a whole number of pixels, its edge repeated (DrQ, arXiv 2004.13649, section 3).

    Args:
        images: uint8 [B, V, H, W, 3], on any device.
        most: pixels, at most, upwards, downwards and sideways; views are moved each on its own.
        generator: of the CPU, whatever the device, so that a seed gives the same motions everywhere; None: PyTorch's.
    """
    batch, views, height, width, _ = images.shape
    moves = torch.randint(-most, most + 1, (2, batch, views, 1), generator=generator)
    rows = (torch.arange(height) + moves[0]).clamp(0, height - 1).to(images.device)
    columns = (torch.arange(width) + moves[1]).clamp(0, width - 1).to(images.device)
    sample = torch.arange(batch, device=images.device)[:, None, None, None]
    view = torch.arange(views, device=images.device)[None, :, None, None]
    return images[sample, view, rows[:, :, :, None], columns[:, :, None, :]]
