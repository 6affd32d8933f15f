"""A V-JEPA 2.1 of tiny size with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.encoder.vjepa2_1 import VJEPA21Config, VJEPA21Model


def tiny_vjepa2_1(seed: int = 0) -> VJEPA21Model:
    """64 px, 16 tokens of width 96 a step, 2 layers. Unlike at the start of a training, no part is near zero."""
    config = VJEPA21Config(
        crop_size=64, hidden_size=96, num_hidden_layers=2, num_attention_heads=4, attn_implementation="sdpa"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VJEPA21Model(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def save_tiny_vjepa2_1(folder: Path, seed: int = 0) -> str:
    """As a folder with config.json and model.safetensors; its name."""
    tiny_vjepa2_1(seed).save_pretrained(folder)
    return str(folder)
