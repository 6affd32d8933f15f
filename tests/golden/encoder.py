"""Our encoders over recorded tensors of the reference modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from pipeline.encoder.encoder_weights import EncoderModel
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.encoder.vjepa2_1 import VJEPA21Config
from pipeline.encoder.weights.loading import build_on_meta, fill

CONFIGS: dict[str, type[VJEPA2Config]] = {"V-JEPA 2": VJEPA2Config, "V-JEPA 2.1": VJEPA21Config}


def build_encoder(config: dict[str, Any], weights: dict[str, Tensor], path: Path) -> EncoderModel:
    """Our encoder with recorded weights under Meta's names, on the recorded input's side."""
    sizes = CONFIGS[config["model"]](
        crop_size=config["input_side"],
        hidden_size=config["embed_dim"],
        num_hidden_layers=config["depth"],
        num_attention_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        layer_norm_eps=config["layer_norm_eps"],
        patch_size=config["patch_size"],
        tubelet_size=config["tubelet_size"],
        qkv_bias=config["qkv_bias"],
        attn_implementation="sdpa",
    )
    model = build_on_meta(sizes)
    fill(model, weights, path)
    if isinstance(model, VJEPA2Model):
        use_rotary_tables(layer.attention for layer in model.encoder.layer)
    return model.eval()


def encoder_outputs(model: EncoderModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Latents [B, T * N, D] of inputs [B, 3, F, C, C], by the number of frames."""
    return {name: model.get_vision_features(clips.transpose(1, 2)) for name, clips in inputs.items()}
