"""V-JEPA 2.1's video encoder, with the tensor names of Meta's files.

It differs from V-JEPA 2 (which transformers has) in this: an embedding of the modality is added to the patches, the two
channels of a rotary pair share one angle, rows and columns are spread over the 16 x 16 grid of the first training
stage whatever the input's side, and there is a norm for each of four levels of depth; the last gives the output.
Tensors for single images and for the other levels are kept, so that every tensor of a file has its place.

Letters: B clips, F frames, T = F/2 tubelets, C input side, N = (C/16)^2 tokens a tubelet, D width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, VJEPA2Config
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.encoder.rotary_tables import Rotary, kept_tables, turn

LEVELS = 4
"""Of depth, each with a norm."""

FIRST_GRID = 16
"""Rows and columns that rotary positions are spread over: 256 px of 16 px patches."""


class VJEPA21Config(VJEPA2Config):
    """Sizes under transformers' names for V-JEPA 2; those of the predictor are not used."""

    model_type = "vjepa2_1"
    crop_size: int = 384


class VJEPA21Model(PreTrainedModel):
    """The encoder as a model of transformers: configuration, attention function, saving.

    Raises:
        ValueError: the input has fewer than 2 x 2 patches.
    """

    config_class = VJEPA21Config
    base_model_prefix = ""
    main_input_name = "pixel_values_videos"
    _supports_sdpa = True

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__(config)
        self.encoder = VideoTransformer(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VideoTransformer):
            for parameter in (module.img_mod_embed, module.video_mod_embed):
                nn.init.normal_(parameter, std=self.config.initializer_range)

    def get_vision_features(self, pixels: Tensor) -> Tensor:
        """float [B, F, 3, C, C], scaled as ImageNet -> [B, T * N, D]."""
        features: Tensor = self.encoder(pixels)
        return features


class VideoTransformer(nn.Module):
    """Patches, blocks and norms."""

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch_embed = PatchEmbedding(width, config.tubelet_size, patch)
        self.patch_embed_img = PatchEmbedding(width, 1, patch)
        self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norms_block = nn.ModuleList(nn.LayerNorm(width, eps=config.layer_norm_eps) for _ in range(LEVELS))

    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels [B, F, 3, C, C] -> patches with the embedding of video [B, T * N, D]."""
        patches = self.patch_embed(pixels)
        return patches + self.video_mod_embed.to(patches.dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """See `VJEPA21Model.get_vision_features`."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        latents: Tensor = self.norms_block[-1](x)
        return latents


class PatchEmbedding(nn.Module):
    """Patches of so many frames to tokens."""

    def __init__(self, width: int, frames: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, (frames, patch, patch), stride=(frames, patch, patch))

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, F, 3, C, C] -> [B, tokens, D]."""
        clip = pixels.transpose(1, 2).to(self.proj.weight.dtype)
        tokens: Tensor = self.proj(clip).flatten(2).transpose(1, 2)
        return tokens


class Block(nn.Module):
    """Attention and MLP, each after a norm and added to what came in."""

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, D] -> the same."""
        x = self.attn(self.norm1(x)) + x
        return self.mlp(self.norm2(x)) + x


class Attention(nn.Module):
    """Every token attends to all of its clip; attributes are named as transformers' attention functions ask for."""

    is_causal = False

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__()
        width, heads, grid = config.hidden_size, config.num_attention_heads, config.crop_size // config.patch_size
        if width % heads or grid < 2:
            raise ValueError(
                f"{heads} heads must divide the width {width}, and an input have 2 x 2 patches, got {grid}"
            )
        self.config, self.attention_head_size = config, width // heads
        self.scaling = self.attention_head_size**-0.5
        self.rotary = Rotary(
            grid=grid,
            axis=2 * (self.attention_head_size // 3 // 2),
            channels=self.attention_head_size,
            spacing=(FIRST_GRID - 1) / (grid - 1),
            paired=True,
        )
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, D] -> the same."""
        parts = self.qkv(x).chunk(3, dim=-1)
        query, key, value = (p.unflatten(-1, (-1, self.attention_head_size)).transpose(1, 2) for p in parts)
        tables = kept_tables(x.shape[1], self.rotary, x.device)
        attend: Any = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, _attend)
        options = {"is_causal": False, "scaling": self.scaling, "dropout": 0.0}
        mixed, _ = attend(self, turn(query, *tables), turn(key, *tables), value, None, **options)
        mixed_back: Tensor = self.proj(mixed.flatten(2))
        return mixed_back


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__()
        hidden = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, hidden)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(hidden, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, D] -> the same."""
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


def _attend(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, __: None, **options: Any) -> tuple[Tensor, None]:
    """PyTorch's attention where no function is named: [B, H, tokens, D/H] -> [B, tokens, H, D/H]."""
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=options["scaling"])
    return mixed.transpose(1, 2).contiguous(), None
