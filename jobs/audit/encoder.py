"""The frozen encoder as the audit uses it: one clip at a time, pixels scaled here and not by the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.encoder.encoder import Encoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet, RGB (V-JEPA2's processor)."""


class ClipEncoder:
    """See `pipeline.audit.rederive.reencode.Reencoder`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.identity: Mapping[str, Any] = encoder.identity()

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
