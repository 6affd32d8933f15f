"""What an encoder in a reduced type loses against float32, measured on the frames of a build."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import Attention, FloatDtype

WINDOWS = 2
"""Windows that are encoded in float32 too: some thousand tokens at full size, and seconds on a GPU."""


def relative_error(settings: EncoderSettings, device: str, block: FrameBlock, latents: NDArray[np.float16]) -> float:
    """|found - exact| / |exact| over the latents of a block's first windows; the weights are loaded again in float32.

    Args:
        settings: of the encoder that made `latents`.
        latents: float16 [W, K+1, V, N, D], of the block.
    """
    exact = replace(settings, dtype=FloatDtype.FLOAT32, attention=Attention.SDPA, compile=False)
    some = FrameBlock(block.frames, block.index[:WINDOWS])
    expected = Encoder(exact, device).encode(some)[0].astype(np.float32)
    found = latents[:WINDOWS].astype(np.float32)
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-12))
