"""The frozen encoder as the audit uses it: in a build's own batches, and one clip at a time with pixels scaled here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.enums import EncoderMode
from pipeline.format.machine import Machine

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet, RGB (V-JEPA2's processor)."""


class AuditEncoder:
    """See `pipeline.audit.rederive.reencode.Reencoder`. A build of mode `clip` is encoded as rule L2 wants it: in
    prefixes."""

    def __init__(self, encoder: Encoder) -> None:
        self.identity: Mapping[str, Any] = encoder.identity()
        self.machine: Machine = encoder.machine
        if encoder.settings.mode == EncoderMode.CLIP:
            encoder.settings = replace(encoder.settings, mode=EncoderMode.PREFIX)
        self._encoder = encoder

    def encode(self, frames: NDArray[np.uint8], index: NDArray[np.int32]) -> NDArray[np.float16]:
        """uint8 [V, F, C, C, 3] and int32 [W, 2(K+1)] -> float16 [W, K+1, V, N, D]."""
        return self._encoder.encode(FrameBlock(frames, index))[0]

    @torch.inference_mode()
    def last_tubelet(self, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Latents of the last tubelet of one clip: uint8 [U, C, C, 3] -> float16 [N, D]."""
        encoder = self._encoder
        scaled = (frames.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        pixels = torch.from_numpy(scaled).permute(0, 3, 1, 2)[None].to(encoder.device)
        dtype = getattr(torch, encoder.settings.dtype)
        with torch.autocast(encoder.device.type, dtype, enabled=dtype is not torch.float32):
            latents = encoder.model.get_vision_features(pixels)[0]
        last: NDArray[np.float16] = latents[-encoder.tokens :].float().cpu().numpy().astype(np.float16)
        return last
