"""V-JEPA2 encoders with random weights: neither speed nor size depends on their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model

from tests.benchmarks.report import quietly

MID_ENCODER: dict[str, Any] = {
    "crop_size": 64,
    "frames_per_clip": 8,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "pred_hidden_size": 32,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
"""Takes several times as long to encode a window as decoding it takes."""

TINY_ENCODER: dict[str, Any] = MID_ENCODER | {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
"""For a run that shows only that a benchmark works."""


def save_random_encoder(folder: Path, config: Mapping[str, Any]) -> Path:
    """Save an encoder for `from_pretrained`; `config` is that of VJEPA2Config, empty: ViT-L."""
    with quietly(), torch.random.fork_rng():
        torch.manual_seed(0)
        VJEPA2Model(VJEPA2Config(**config)).save_pretrained(folder)
    return folder
