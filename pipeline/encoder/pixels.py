"""Frames as V-JEPA 2 and 2.1 take them."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of ImageNet's channels, float32 [3, 1, 1] each."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def scaled(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 [B, F, C, C, 3], RGB -> float32 [B, F, 3, C, C]."""
    return (frames.permute(0, 1, 4, 2, 3).float() / 255 - mean) / std
