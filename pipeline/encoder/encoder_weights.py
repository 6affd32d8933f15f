"""Parameters of a V-JEPA 2 or 2.1 encoder as the forward pass takes them, whatever its module names them.

Letters: B clips, F frames, T = F/2 tubelets, C input side, N tokens a tubelet, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers import VJEPA2Model

from pipeline.encoder.rotary_tables import Rotary
from pipeline.encoder.vjepa2_1 import VJEPA21Model

EncoderModel: TypeAlias = VJEPA2Model | VJEPA21Model
"""Both have `config` with transformers' names, `encoder`, and `get_vision_features`."""


class Affine(NamedTuple):
    """Parameters of a linear layer or of a norm."""

    weight: Tensor
    bias: Tensor | None


class LayerWeights(NamedTuple):
    """Parameters of a transformer layer."""

    norm1: Affine
    query: Affine
    key: Affine
    value: Affine
    proj: Affine
    norm2: Affine
    fc1: Affine
    fc2: Affine


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder in parts.

    embeddings  pixels [B, F, 3, C, C] -> [B, T * N, D], by the module itself
    patches     what it projects patches with
    modality    [1, 1, D], added to every patch; None: nothing is
    attention   module of the first layer, which attention functions are handed
    """

    embeddings: Callable[[Tensor], Tensor]
    patches: Affine
    modality: Tensor | None
    layers: list[LayerWeights]
    final: Affine
    attention: Any
    activation: Callable[[Tensor], Tensor]
    rotary: Rotary


def weights_of(model: EncoderModel) -> EncoderWeights:
    """Views of a model's parameters; nothing is copied."""
    return _of_vjepa2_1(model) if isinstance(model, VJEPA21Model) else _of_vjepa2(model)


def cast_weights(model: EncoderModel, dtype: torch.dtype) -> None:
    """Keep the weights of matrix products in the type that autocast would cast them to at every call. Norms stay."""
    for module in model.encoder.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            module.to(dtype)


def _of_vjepa2(model: VJEPA2Model) -> EncoderWeights:
    encoder = model.encoder
    attention = encoder.layer[0].attention
    return EncoderWeights(
        embeddings=encoder.embeddings,
        patches=_affine(encoder.embeddings.patch_embeddings.proj),
        modality=None,
        layers=[_layer(x, x.attention, (x.attention.query, x.attention.key, x.attention.value)) for x in encoder.layer],
        final=_affine(encoder.layernorm),
        attention=attention,
        activation=encoder.layer[0].mlp.activation,
        rotary=Rotary(attention.grid_size, attention.d_dim, attention.attention_head_size),
    )


def _of_vjepa2_1(model: VJEPA21Model) -> EncoderWeights:
    encoder: Any = model.encoder
    attention = encoder.blocks[0].attn
    return EncoderWeights(
        embeddings=encoder.embed,
        patches=_affine(encoder.patch_embed.proj),
        modality=encoder.video_mod_embed.detach(),
        layers=[_layer(block, block.attn, _thirds(block.attn.qkv)) for block in encoder.blocks],
        final=_affine(encoder.norms_block[-1]),
        attention=attention,
        activation=encoder.blocks[0].mlp.activation,
        rotary=attention.rotary,
    )


def _layer(layer: Any, attention: Any, projections: tuple[Any, Any, Any]) -> LayerWeights:
    modules = (layer.norm1, *projections, attention.proj, layer.norm2, layer.mlp.fc1, layer.mlp.fc2)
    return LayerWeights(*map(_affine, modules))


def _thirds(qkv: Any) -> tuple[Affine, Affine, Affine]:
    """Query, key and value of a layer that projects to all three."""
    query, key, value = map(Affine, qkv.weight.chunk(3), qkv.bias.chunk(3))
    return query, key, value


def _affine(part: Any) -> Affine:
    return Affine(part.weight.detach(), None if part.bias is None else part.bias.detach())
