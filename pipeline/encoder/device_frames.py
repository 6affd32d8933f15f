"""Frames of a block on the encoder's device: each is copied there once, when a batch first needs it.

Letters: V views, U distinct frames, B clips of a batch, F sampled frames of a clip, C input side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.encoder.encoder_frames import FrameBlock


class DeviceFrames:
    """The frames that the windows of one block use. On CUDA copies run beside the encoder, from pinned memory.

    Memory on the device: V * C * C * 3 bytes for each distinct frame of the index, so at most W * F frames a view.
    `shards.group_samples` bounds the windows W of a block.
    """

    def __init__(self, block: FrameBlock, device: torch.device) -> None:
        self._device = device
        self._count = block.frames.shape[1]
        self._frames = block.frames.reshape(-1, *block.frames.shape[2:])
        self._place = np.full(len(self._frames), -1, np.int64)
        used = len(np.unique(block.index[block.index >= 0])) * len(block.frames)
        self._held = torch.empty((used, *self._frames.shape[1:]), dtype=torch.uint8, device=device)
        self._filled = 0

    def clips(self, views: NDArray[np.intp], index: NDArray[np.int32]) -> Tensor:
        """Frames index [B, F] of views [B], on the device: uint8 [B, F, C, C, 3]."""
        wanted = views[:, None] * self._count + index
        missing = np.unique(wanted[self._place[wanted] < 0])
        if len(missing):
            self._place[missing] = self._filled + np.arange(len(missing))
            here = slice(self._filled, self._filled + len(missing))
            self._held[here].copy_(self._staged(missing), non_blocking=True)
            self._filled += len(missing)
        return self._held[to_device(self._place[wanted], self._device)]

    def _staged(self, rows: NDArray[np.intp]) -> Tensor:
        """Some frames one after the other in memory, pinned for CUDA."""
        pinned = self._device.type == "cuda"
        staged = torch.empty((len(rows), *self._frames.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        np.take(self._frames, rows, axis=0, out=staged.numpy(), mode="clip")  # the other modes copy twice
        return staged


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A small array on the device; on CUDA without waiting for what runs there."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def to_host(tensor: Tensor) -> Tensor:
    """A tensor in host memory, through pinned memory."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
